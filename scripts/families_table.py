"""Which families of models can be steered: `python scripts/families_table.py` writes `docs/families.md`.

Without options a tiny model of every class is built and tried, which takes four minutes on two cores. `--table` only
writes the outcomes listed in `tests/families.py`, which slow tests compare with the same trials.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from families import CLASSES, Outcome, wanted_outcome  # noqa: E402

DOCS = ROOT / "docs/families.md"
KINDS = {"works": "Works", "refused": "Refused", "not built": "Not built"}
HEAD = """# Families of models
Every class that transformers {version} generates text with (`MODEL_FOR_CAUSAL_LM_MAPPING`), tried with a tiny model of
random weights: **{works} work**, {refused} are refused, {not_built} could not be built tiny. Made by

```bash
python scripts/families_table.py
```

"Works" means, for every one of them: without attributes the text is transformers' own, and so it is with a step of
length 0; a bag of words changes the text, and a head lowers its loss; a batch of texts with padding equals single runs;
the weights stay as they are; and a head's look-ahead at a future that is certain equals reading its token. Models with
sliding windows are tried with texts longer than the window. A refusal names what was found in the model, never its
name, so a model of your own is treated the same way.

"""


def rendered(outcome: Callable[[str], Outcome]) -> str:
    """Return the page, with what `outcome` returns for every family."""
    outcomes = {family: outcome(family) for family in CLASSES}
    counts = Counter(found.kind for found in outcomes.values())
    page = HEAD.format(
        version=transformers.__version__,
        works=counts["works"],
        refused=counts["refused"],
        not_built=counts["not built"],
    )
    page += "| family | class | | why, or what is limited |\n| --- | --- | --- | --- |\n"
    for kind, shown in KINDS.items():
        for family, found in sorted(outcomes.items(), key=lambda item: (_reasons(item[1]), item[0])):
            if found.kind == kind:
                page += f"| {family} | {CLASSES[family]} | {shown} | {_reasons(found)} |\n"
    return page


def _reasons(found: Outcome) -> str:
    return "; ".join(getattr(reason, "shown", str(reason)) for reason in found.reasons)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="write what tests/families.py lists; try nothing")
    outcome = wanted_outcome
    if not parser.parse_args().table:
        warnings.filterwarnings("ignore")
        transformers.utils.logging.set_verbosity_error()
        from family_checks import found_outcome as outcome
    DOCS.write_text(rendered(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
