"""Where heads are stored, and how their files are read: our folders, and the published `.pt` files.

A head is a folder: `head.safetensors` with `weight` (C, D) and `bias` (C,), `card.json` with the labels and how it was
made, and optionally `class_means.safetensors` with the classes' `hidden_states` (C, L, D) after each of L layers. A
folder of such folders, one for each language model, is a family of heads; every shipped name is a family.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from pplm.errors import InputError
from pplm.files.reading import parse_json
from pplm.models.resources import EMBEDDED_MODEL, data_path, local_path, shipped_names

_FOLDER = "discriminators"
_PT_PARTS = ("weight", "bias")
WEIGHTS_FILE, CARD_FILE, PLOT_FILE = "head.safetensors", "card.json", "confusion.png"
MEANS_FILE = "class_means.safetensors"
HEAD_FILES = (WEIGHTS_FILE, CARD_FILE, PLOT_FILE, MEANS_FILE)
"""What a head's folder holds; the plot and the class means may be missing."""
_MEANS = "hidden_states"


def read_head(folder: Path) -> tuple[Tensor, Tensor, tuple[str, ...], Mapping[str, Any]]:
    """Return the weight (C, D), bias (C,), labels and card of a head's folder.

    Raises
    ------
    InputError
        If its files are missing or damaged.

    """
    try:
        card = parse_json((folder / CARD_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS_FILE)
        weight, bias, labels = tensors["weight"], tensors["bias"], card["labels"]
    except OSError as error:
        if not _holds_head(folder):
            files = f"{CARD_FILE} and {WEIGHTS_FILE}"
            raise InputError(
                f"discriminator {folder} cannot be read: it holds no head ({files}), nor folders that each hold one"
            ) from error
        raise InputError(f"discriminator {folder} cannot be read: {error}") from error
    except (ValueError, SafetensorError) as error:
        raise InputError(f"discriminator {folder} is damaged ({error}); train or copy it again") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"discriminator {folder} lacks {error}; train or copy it again") from error
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise InputError(f"discriminator {folder}: labels in {CARD_FILE} must be a list of names; got {labels!r}")
    if weight.is_complex() or bias.is_complex():
        raise InputError(f"discriminator {folder}: {WEIGHTS_FILE} holds complex numbers; train or copy it again")
    _check_card(folder, card)
    return weight.float(), bias.float(), tuple(labels), card


def _check_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Refuse a card whose `base_model` or `data`, which are read later, is not a JSON object."""
    base = card.get("base_model") or {}
    parts = {"base_model": base, "data": card.get("data") or {}}
    if isinstance(base, Mapping):
        parts |= {f"base_model's {name}": base.get(name) or {} for name in ("weights", "vectors")}
    for name, value in parts.items():
        if not isinstance(value, Mapping):
            raise InputError(
                f"discriminator {folder}: {name} in {CARD_FILE} must be an object; got {value!r}; copy it again"
            )


def read_class_means(folder: Path) -> Tensor | None:
    """Return the mean hidden states (C, L, D) of the classes in a head's folder; None if there are none.

    Raises
    ------
    InputError
        If the file is damaged.

    """
    path = folder / MEANS_FILE
    if not path.exists():
        return None
    try:
        return load_file(path)[_MEANS].float()
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}); train or copy the head again") from error


def write_class_means(folder: Path, means: Tensor) -> None:
    """Write the mean hidden states (C, L, D) of the classes into a head's folder."""
    (folder / MEANS_FILE).write_bytes(serialize({_MEANS: means.contiguous()}))


def read_published(path: Path) -> tuple[Tensor, Tensor]:
    """Return the weight (C, D) and bias (C,) of a published `.pt` head, without running any code in the file.

    Raises
    ------
    InputError
        If the file cannot be read, or is not a state dict of such a head.

    """
    try:
        with warnings.catch_warnings():  # torch warns about the old file format
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
        weight, bias = (next((v for k, v in state.items() if k.endswith(f"mlp.{p}")), None) for p in _PT_PARTS)
    except OSError as error:
        raise InputError(f"head {path} cannot be read: {error.strerror}") from error
    except (RuntimeError, ValueError, EOFError, LookupError, TypeError, UnpicklingError) as error:
        reason = str(error).split("\n")[0][:120]
        raise InputError(f"head {path} is damaged or not a state dict ({reason}); download it again") from error
    except AttributeError as error:
        raise InputError(f"head {path} holds no state dict; it is not a published head") from error
    if not (isinstance(weight, Tensor) and isinstance(bias, Tensor)):
        raise InputError(f"head {path} has no mlp.weight and mlp.bias; it is not a published head")
    return weight, bias


def find_head(name_or_path: str | Path) -> tuple[str, list[Path]]:
    """Return the name of a head and its folder, or the folders of its family with the embedded model's first.

    Raises
    ------
    InputError
        If there is no such head.

    """
    path = local_path(name_or_path)
    names = shipped_names(_FOLDER)
    # A folder without a head, such as a report about sentiment, does not hide the head of that name.
    if str(name_or_path) in names and (path is None or not _heads(path)):
        path = data_path(_FOLDER, str(name_or_path))
    if path is not None and path.is_dir():
        return path.name or path.resolve().name, _heads(path) or [path]
    if path is not None:
        raise InputError(
            f"discriminator {path} is a file; name the folder, or give the labels of a .pt head (--labels)"
        )
    known = ", ".join(names) or "none"
    raise InputError(f"discriminator {str(name_or_path)!r} is neither a folder nor a shipped one ({known})")


def check_family(
    name: str, folders: Sequence[Path], labels: Sequence[tuple[str, ...]], cards: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse a family whose heads have different labels, or do not all name the model that they were trained on.

    Raises
    ------
    InputError
        Naming the folder that does not fit.

    """
    for folder, own, card in zip(folders, labels, cards, strict=True):
        if own != labels[0]:
            raise InputError(
                f"discriminator {name}: the labels of {folder} are {', '.join(own)}, those of {folders[0]} are "
                f"{', '.join(labels[0])}; name one of these folders, or keep heads of the same labels together"
            )
        if len(folders) > 1 and not {"name", "weights"} <= set(card.get("base_model") or {}):
            raise InputError(
                f"discriminator {name}: {folder / CARD_FILE} does not name the model that its head was trained on; "
                "name the folder of one head"
            )


def _heads(path: Path) -> list[Path]:
    """Return a folder if it holds a head, else those of its subfolders that do, the embedded model's first."""
    try:
        if _holds_head(path):
            return [path]
        found = [folder for folder in path.iterdir() if _holds_head(folder)] if path.is_dir() else []
    except OSError as error:
        raise InputError(
            f"discriminator {path} cannot be read: {error.strerror or error}; name another folder"
        ) from error
    return sorted(found, key=lambda head: (head.name != EMBEDDED_MODEL, head.name))


def _holds_head(folder: Path) -> bool:
    return any((folder / file).exists() for file in (CARD_FILE, WEIGHTS_FILE))
