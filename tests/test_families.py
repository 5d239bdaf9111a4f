"""Every class of models that transformers generates text with: it works, or is refused by what stands in the way."""

import os
import sys
from pathlib import Path

import pytest
import transformers
from families import CLASSES, LIMITED, NOT_BUILT, REFUSED, VERSION, wanted_outcome
from family_checks import found_outcome

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = {
    "bart", "bert", "blt", "deepseek_v32", "gemma3n_text", "gemma4_text", "hrm_text", "llama4", "mamba", "mllama",
    "moshi", "mpt", "musicgen", "openai-gpt", "phi3", "qwen3_next",
}  # fmt: skip
"""One family for each reason to refuse, and a few that work, each in another way."""
OF_THE_TABLE = transformers.__version__ == VERSION
needs_the_version = pytest.mark.skipif(not OF_THE_TABLE, reason=f"the table is of transformers {VERSION}")


@pytest.mark.filterwarnings("ignore")  # transformers' own, of configs
@pytest.mark.parametrize(
    "family", [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.slow) for name in CLASSES]
)
def test_a_family_works_or_is_refused_as_the_table_says(family):
    found, wanted = found_outcome(family), wanted_outcome(family)
    assert (found if OF_THE_TABLE else found.kind) == (wanted if OF_THE_TABLE else wanted.kind)


@needs_the_version
def test_the_table_names_only_families_that_there_are_and_no_family_twice():
    named = [name for table in (REFUSED, NOT_BUILT) for families in table.values() for name in families.split()]
    assert len(named) == len(set(named))
    limited = {name for families in LIMITED.values() for name in families.split()}
    assert set(named) | limited <= set(CLASSES)
    assert not limited & set(named)
    assert len(NOT_BUILT) <= 5


@needs_the_version
@pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="needs a checkout")
def test_the_docs_show_the_table():
    sys.path.insert(0, os.fspath(ROOT / "scripts"))
    try:
        from families_table import rendered
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs/families.md").read_text(encoding="utf-8") == rendered(wanted_outcome)
