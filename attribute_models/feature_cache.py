"""A cache of pooled features on disk, so that another training on the same texts does not read them again.

One safetensors file per model, tokenizer, texts and options, float32. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pplm.files.atomic import atomic_file
from pplm.models.fingerprint import weight_hashes
from pplm.models.resources import cache_folder

logger = logging.getLogger(__name__)
_VERSION = 3
"""Increase this whenever the same texts would be pooled differently."""
_NOT_THE_MODEL = ("_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


def default_cache_dir() -> Path:
    """Return the folder for features in the user's cache (`pplm.models.resources.cache_folder`)."""
    return cache_folder("features")


def feature_fingerprint(model: Any, tokenizer: Any, texts: Sequence[str], options: Any) -> str:
    """Return a hash of everything that the features depend on."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in _NOT_THE_MODEL}
    settings = {
        "version": _VERSION,
        "weights": weight_hashes(model),
        "dtype": str(model.dtype),
        "config": config,
        "tokenizer": _tokenizer_text(tokenizer),
        "options": asdict(options),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for text in texts:
        raw = text.encode(errors="surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:32]


def load_cached(folder: str | Path, key: str) -> tuple[Tensor, int] | None:
    """Return pooled features and the number of truncated texts; None if no readable file holds them."""
    path = _path(folder, key)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("pooled"), int((file.metadata() or {})["truncated"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("cached features %s are damaged (%s); reading the texts again", path, error)
        return None


def store_cached(folder: str | Path, key: str, pooled: Tensor, truncated: int) -> None:
    """Write features completely or not at all; if that fails, such as on a full disk, only log a warning."""
    path = _path(folder, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as new:
            save_file({"pooled": pooled.contiguous()}, new, {"truncated": str(truncated)})
    except (OSError, SafetensorError) as error:
        logger.warning("features are not cached, %s cannot be written: %s", path, error)


def _path(folder: str | Path, key: str) -> Path:
    return Path(folder).expanduser() / f"{key}.safetensors"


def _tokenizer_text(tokenizer: Any) -> str:
    """Return everything that decides how a tokenizer cuts a text."""
    if getattr(tokenizer, "is_fast", False):
        return tokenizer.backend_tokenizer.to_str()
    return json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), tokenizer.special_tokens_map])
