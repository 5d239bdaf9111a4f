"""What a long-running process holds on to: memory, open files and threads, the figures of docs/reliability.md.

python scripts/soak.py generate      (2,000 steered texts)
python scripts/soak.py judge         (a language model reads 1,000 texts, and 10,000)
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import psutil

from pplm.cli import run_command
from pplm.cli.options import comma_list

_MEGABYTE = 1e6
WARM_UP = 200
"""Texts during which memory may still grow: one-time set-up, and blocks that the C library keeps for reuse."""
SHORTEST, LONGEST = 5, 60
"""Length of a prompt, in tokens."""


@dataclass
class Soak:
    """What a process held after every batch.

    Attributes
    ----------
    texts
        Texts written so far when each of S samples was taken, S integers.
    megabytes
        Resident memory then (10^6 bytes).
    files, threads
        Their numbers then.

    """

    texts: list[int] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self, texts: int) -> None:
        """Record what this process holds after `texts` texts."""
        process = psutil.Process()
        self.texts.append(texts)
        self.megabytes.append(process.memory_info().rss / _MEGABYTE)
        self.files.append(len(process.open_files()))
        self.threads.append(process.num_threads())

    @property
    def peaks(self) -> tuple[float, float]:
        """The largest memory in MB during the texts of the warm-up, and during all later ones."""
        found = list(zip(self.texts, self.megabytes, strict=True))
        return (
            max(value for texts, value in found if texts <= WARM_UP),
            max(value for texts, value in found if texts > WARM_UP),
        )

    @property
    def growth(self) -> float:
        """By what share the second peak exceeds the first; 0.05 is 5%."""
        first, rest = self.peaks
        return rest / first - 1

    def lines(self) -> list[str]:
        """Return the figures as sentences."""
        first, rest = self.peaks
        return [
            f"resident memory: at most {first:.0f} MB over the first {WARM_UP} texts, at most {rest:.0f} MB over the "
            f"texts from there to {self.texts[-1]:,}: {self.growth:+.1%}",
            f"open files after the first and the last batch: {self.files[0]} and {self.files[-1]}",
            f"threads after the first and the last batch: {self.threads[0]} and {self.threads[-1]}",
        ]


def made_up(tokenizer: Any, lengths: Iterable[int], seed: int) -> Iterable[str]:
    """Yield a text of each length, in tokens, made of words that are one token each."""
    draw = random.Random(seed)  # noqa: S311
    known = sorted((number, tokenizer.decode([number])) for number in tokenizer.get_vocab().values())
    words = [word for _, word in known if word.startswith(" ") and word[1:].isalpha() and word.isascii()]
    for length in lengths:
        yield "The" + "".join(draw.choice(words) for _ in range(length - 1))


def steered(
    model: Any, tokenizer: Any, *, texts: int, batch: int, new_tokens: int, seed: int = 0, **settings: Any
) -> Soak:
    """Generate with a bag and a head from prompts of all lengths, shuffled; record what is held after each batch."""
    from attribute_models import BagOfWords, Discriminator
    from pplm import SteeringConfig, generate, steering_presets

    attributes = [BagOfWords.load("space", tokenizer), Discriminator.load("sentiment", "positive")]
    steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model), **settings)
    lengths = [SHORTEST + number % (LONGEST - SHORTEST + 1) for number in range(texts)]
    random.Random(seed).shuffle(lengths)  # noqa: S311
    prompts = list(made_up(tokenizer, lengths, seed))
    soak = Soak()
    for start in range(0, texts, batch):
        own = prompts[start : start + batch]
        generate(model, tokenizer, own, attributes=attributes, steering=steering, seed=seed,
                 prompt_indices=range(start, start + len(own)), max_new_tokens=new_tokens,
                 min_new_tokens=new_tokens, do_sample=True, top_k=10)  # fmt: skip
        soak.sample(start + len(own))
    return soak


def judged(model: Any, tokenizer: Any, counts: Sequence[int], seed: int = 0) -> list[float]:
    """Return for each number of texts the peak memory of judging them, in MB above what was in use before."""
    from pplm.benchmark.memory import peak_memory_mb
    from pplm.evaluation import JudgedText, PerplexityJudge

    judge, draw = PerplexityJudge(model, tokenizer, "judge"), random.Random(seed)  # noqa: S311
    found = []
    for count in counts:
        lengths = (draw.randint(20, 120) for _ in range(count))
        texts = [JudgedText(text, "The") for text in made_up(tokenizer, lengths, seed)]
        found.append(peak_memory_mb(lambda texts=texts: judge.judge(texts), model.device))
    return found


@click.group()
def soak() -> None:
    """Print what a process holds on to."""


@soak.command("generate")
@click.option("--texts", default=2000, show_default=True, type=click.IntRange(WARM_UP + 1), help="Texts in all.")
@click.option("--batch", default=50, show_default=True, type=click.IntRange(1, WARM_UP), help="Texts at once.")
@click.option("--new-tokens", default=40, show_default=True, help="Length of the completions, in tokens.")
def soak_generate(texts: int, batch: int, new_tokens: int) -> None:
    """Steer the embedded model with a bag and a head in one process, prompts of 5 to 60 tokens."""
    from pplm import load_model

    start = time.perf_counter()
    found = steered(*load_model(device="cpu"), texts=texts, batch=batch, new_tokens=new_tokens)
    click.echo("\n".join([*found.lines(), f"{time.perf_counter() - start:.0f} seconds"]))


@soak.command("judge")
@click.option("--texts", "counts", default="1000,10000", show_default=True, callback=comma_list(int),
              help="Numbers of texts, of 20 to 120 tokens.")  # fmt: skip
def soak_judge(counts: Sequence[int]) -> None:
    """Let the embedded model judge texts, as `pplm score --judge` does."""
    from pplm import load_model

    for count, megabytes in zip(counts, judged(*load_model(device="cpu"), counts), strict=True):
        click.echo(f"{count:,} texts: {megabytes:.0f} MB over the loaded model")


if __name__ == "__main__":
    run_command(soak)
