"""One picture per concept for docs/how_it_works.md: drawings, and plots of what the embedded model does.

python scripts/concept_pictures.py --output docs/concepts
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

import pplm
from attribute_models import BagOfWords
from pplm.cli import run_command
from pplm.files.figures import new_figure, save_figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.6"
SHARE = 0.45
"""`gm_scale` in the picture of the geometric mean; it is the embedded model's own."""
STRENGTHS = ((0.2, "#56b4e9", "v"), (0.5, BLUE, "o"), (0.8, ORANGE, "s"))
PROMPT, TOKENS, SEED = "The lake", 40, 0
BEGINNING = "The sky was full of"
"""The prompt in the picture of the geometric mean, after which a word of the bag is plausible."""


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of the pictures.")
def concept_pictures(output: Path) -> None:
    """Draw all pictures; print the numbers behind the plots."""
    output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model, tokenizer = pplm.load_model(device="cpu")
    bag = BagOfWords.load("space", tokenizer)
    _token(output / "token.png")
    _moved(output / "moved.png")
    _several(output / "several.png")
    _mean(model, tokenizer, bag, output / "mean.png")
    _dial(model, tokenizer, bag, output / "dial.png")


def _box(axes: Any, place: tuple[float, float], text: str, colour: str = "0.3") -> None:
    axes.text(*place, text, ha="center", va="center", color="black", bbox={
        "boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": colour, "linewidth": 2,
    })  # fmt: skip


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str = "0.3") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})


def _token(path: Path) -> None:
    """Draw the steps by which one token comes about."""
    figure = new_figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    _arrow(axes, (2.1, 3), (5.75, 3))
    _arrow(axes, (1.2, 2.6), (1.2, 1.4), BLUE)
    _arrow(axes, (1.85, 1), (3.3, 1), BLUE)
    _arrow(axes, (5.1, 1), (5.7, 1), BLUE)
    _arrow(axes, (6.6, 1.35), (8.1, 1.75), BLUE)
    _arrow(axes, (6.6, 2.75), (8.1, 2.3))
    _box(axes, (1.2, 3), "the text so far:\nits keys and values")
    _box(axes, (6.4, 3), "unsteered\nprobabilities")
    _box(axes, (1.2, 1), "a copy\nto be moved", BLUE)
    _box(axes, (4.2, 1), "a step that lowers\nthe attribute's loss", BLUE)
    _box(axes, (6.4, 1), "steered\nprobabilities", BLUE)
    _box(axes, (8.6, 2.02), "their mean:\ndraw the token")
    axes.annotate("", (3.7, 0.55), (4.7, 0.55), arrowprops={
        "arrowstyle": "-|>", "color": BLUE, "linewidth": 2, "connectionstyle": "arc3,rad=-0.9",
    })  # fmt: skip
    axes.text(4.2, 0.02, "num_iterations times", ha="center", color=BLUE)
    axes.text(3.75, 3.12, "the model reads it", ha="center")
    axes.text(5.35, 1.22, "reads it", ha="center", color=BLUE)
    axes.set(xlim=(0, 9.7), ylim=(-0.2, 3.6))
    axes.axis("off")
    save_figure(figure, path)


def _moved(path: Path) -> None:
    """Draw which keys and values the presets move: 12 layers over 10 positions."""
    layers, positions = 12, 10
    all_layers = np.zeros((layers, positions))
    all_layers[:, -5:] = 1
    last = np.zeros((layers, positions))
    last[:2, -5:] = 1
    figure = new_figure(figsize=(8.5, 4.2), layout="constrained")
    for axes, cells, title in zip(
        figure.subplots(1, 2),
        (all_layers, last),
        (
            "paper: all layers,\nwindow_length 5",
            "fast and the dial: the last layers\n(layers 2 of 12), window_length 5",
        ),
        strict=True,
    ):
        axes.pcolormesh(cells, cmap=_two_colours(), edgecolors="white", linewidth=2)
        axes.set_title(title, fontsize="medium")
        axes.set(xlabel="position in the text (the newest at the right)", ylabel="layer", xticks=[])
        axes.set_yticks([0.5, layers - 0.5], ["last", "first"])
    handles = [_patch(BLUE, "keys and values that a step moves"), _patch("0.85", "left as they are")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)


def _two_colours() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(["0.85", BLUE])


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _several(path: Path) -> None:
    """Draw two attributes' steps and their sum."""
    figure = new_figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    steps = {"space, weight 1": ((0, 0), (3, 0.6), BLUE), "praise, weight 0.5": ((3, 0.6), (3.6, 2.1), ORANGE)}
    for name, (start, end, colour) in steps.items():
        _arrow(axes, start, end, colour)
        middle = [sum(pair) / 2 for pair in zip(start, end, strict=True)]
        axes.text(middle[0] + 0.15, middle[1] - 0.3, name, color=colour)
    _arrow(axes, (0, 0), (3.6, 2.1), "black")
    axes.text(0.55, 1.25, "what the history\nis moved by", ha="left")
    axes.plot(0, 0, "o", color="black")
    axes.text(0, -0.35, "the history", ha="center")
    axes.set(xlim=(-0.7, 5.4), ylim=(-0.6, 2.4))
    axes.axis("off")
    save_figure(figure, path)


def _first(model: Any, tokenizer: Any, attributes: list[Any], share: float) -> np.ndarray:
    """Return the probabilities (V,) of the first new token, with the steered distribution's `share` in the mean."""
    steering = pplm.SteeringConfig.for_attributes(
        attributes or [], presets=pplm.steering_presets(model), preset="fast", gm_scale=share
    )
    inputs = tokenizer(tokenizer.bos_token + BEGINNING, return_tensors="pt")
    found = model.generate(
        **inputs, custom_generate=pplm.steered_decoding(attributes, steering), max_new_tokens=1, do_sample=False,
        output_logits=True, return_dict_in_generate=True, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return found.logits[0][0].double().softmax(-1).numpy()


def _mean(model: Any, tokenizer: Any, bag: BagOfWords, path: Path) -> None:
    """Draw the first token's distributions and their geometric mean."""
    found = {
        "unsteered": (_first(model, tokenizer, [bag], 0.0), GREY),
        "steered": (_first(model, tokenizer, [bag], 1.0), ORANGE),
        f"their geometric mean, gm_scale {SHARE}": (_first(model, tokenizer, [bag], SHARE), BLUE),
    }
    unsteered, steered = (found[name][0] for name in ("unsteered", "steered"))
    chosen = list(dict.fromkeys([*np.argsort(-unsteered)[:5], *np.argsort(-steered)[:5]]))
    chosen.sort(key=lambda token: -unsteered[token])
    names = [repr(tokenizer.decode([token]))[1:-1] for token in chosen]
    figure = new_figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, (probabilities, colour)) in enumerate(found.items()):
        heights = [100 * probabilities[token] for token in chosen]
        axes.bar(np.arange(len(chosen)) + (number - 1) * 0.27, heights, 0.27, color=colour, label=name)
        click.echo(
            f"{name}: " + ", ".join(f"{token} {height:.2f}%" for token, height in zip(names, heights, strict=True))
        )
    axes.set_xticks(range(len(chosen)), names)
    axes.set(ylabel="probability (%)", xlabel=f'next token after "{BEGINNING}", the bag being space')
    axes.grid(visible=True, axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    save_figure(figure, path)


def _dial(model: Any, tokenizer: Any, bag: BagOfWords, path: Path) -> None:
    """Draw the divergence that three strengths spend, token by token."""
    figure = new_figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    for strength, colour, marker in STRENGTHS:
        steering = pplm.SteeringConfig.for_attributes([bag], presets=pplm.steering_presets(model), strength=strength)
        (text,) = pplm.generate(
            model, tokenizer, PROMPT, attributes=[bag], steering=steering, seed=SEED, max_new_tokens=TOKENS,
            do_sample=True, top_k=10,
        )  # fmt: skip
        label = f"strength {strength}: at most {steering.budget:.3f} nats"
        axes.plot(text.final_kl, marker=marker, markersize=4, linewidth=1.2, color=colour, label=label)
        axes.axhline(steering.budget, color=colour, linestyle=":", linewidth=1.5)
        click.echo(f"strength {strength}: mean {np.mean(text.final_kl):.4f}, largest {max(text.final_kl):.4f} nats")
    axes.set(xlabel="new token", ylabel="divergence from the unsteered\ndistribution (nats)")
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    run_command(concept_pictures)
