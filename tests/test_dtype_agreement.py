"""What is said of number formats: nothing differs where nothing can, and the same texts are compared."""

import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from helpers import STRONG

import pplm
from pplm.benchmark import agreement as agreement_module
from pplm.benchmark import dtype_agreement

SCRIPT = Path(__file__).parent.parent / "scripts" / "dtype_agreement.py"
SPANS = ["first token", "same text", "all tokens"]


def compare(model, tokenizer, attributes, **settings):
    defaults = {"dtypes": ("bfloat16",), "steering": STRONG, "num_samples": 2, "max_new_tokens": 4}
    return dtype_agreement(model, tokenizer, ["the moon", "a"], attributes, **{**defaults, **settings})


@pytest.fixture
def unchanged(monkeypatch):
    """A lower number format that is float32 itself."""
    monkeypatch.setattr(agreement_module, "in_dtype", lambda model, _: model)


def test_a_format_that_changes_nothing_deviates_nowhere(unchanged, gpt2, tokenizer, bag):
    """Above all: texts that are written again on request have the losses that they had when they were drawn."""
    rows = compare(gpt2, tokenizer, [bag])
    assert [row.span for row in rows] == SPANS
    assert [row.tokens for row in rows] == [4, 16, 16]
    for row in rows:
        assert row.attribute_loss.largest == row.kl.largest == 0
        assert row.attribute_loss.reference > 0
        assert row.same_tokens == (4, 4, 4, 4)


def test_a_lower_format_deviates_a_little_and_the_lower_one_more(gpt2, tokenizer, bag):
    rows = compare(gpt2, tokenizer, [bag], dtypes=("float16", "bfloat16"))
    finer, coarser = rows[2], rows[5]
    assert (finer.dtype, coarser.dtype) == ("float16", "bfloat16")
    for row in (finer, coarser):
        assert 0 < row.attribute_loss.mean < row.attribute_loss.largest < 0.5
        assert row.attribute_loss.reference == finer.attribute_loss.reference
    assert finer.attribute_loss.mean < coarser.attribute_loss.mean


def test_the_reference_is_the_mean_loss_of_the_texts_in_float32(gpt2, tokenizer, bag):
    texts = pplm.generate(
        gpt2, tokenizer, ["the moon", "a"], attributes=[bag], steering=STRONG, num_samples=2, seed=0,
        do_sample=True, top_k=10, max_new_tokens=4, min_new_tokens=4,
    )  # fmt: skip
    losses = [loss for text in texts for token in text.attribute_loss for loss in token]
    first = [loss for text in texts for loss in text.attribute_loss[0]]
    rows = compare(gpt2, tokenizer, [bag])
    assert rows[2].attribute_loss.reference == pytest.approx(math.fsum(losses) / len(losses))
    assert rows[0].attribute_loss.reference == pytest.approx(math.fsum(first) / len(first))


def test_the_same_text_ends_with_the_token_that_differs(gpt2, tokenizer, bag, monkeypatch):
    """Another model stands in for the lower format, so that texts part early."""
    torch.manual_seed(4)
    other = pplm.freeze(type(gpt2)(gpt2.config))
    monkeypatch.setattr(agreement_module, "in_dtype", lambda *_: other)
    rows = compare(gpt2, tokenizer, [bag])
    same = rows[1].same_tokens
    assert min(same) < 4
    assert rows[1].tokens == sum(min(count + 1, 4) for count in same)
    assert rows[2].tokens == 16
    assert rows[2].attribute_loss.largest > 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtypes": ("float32",)}, "dtypes must be of bfloat16, float16, at least one; got float32"),
        ({"dtypes": ()}, "at least one; got none"),
        ({"steering": pplm.SteeringConfig(step_size=0.0)}, "without steering there are no losses to compare"),
        ({"attributes": []}, "without steering there are no losses to compare"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings, message, gpt2, tokenizer, bag):
    with pytest.raises(pplm.InputError, match=message):
        compare(gpt2, tokenizer, settings.pop("attributes", [bag]), **settings)


def test_a_model_in_another_format_is_refused(gpt2, tokenizer, bag):
    with pytest.raises(pplm.InputError, match=r"model must be in float32.*got torch.bfloat16"):
        compare(agreement_module.in_dtype(gpt2, "bfloat16"), tokenizer, [bag])


def script(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_script_prints_a_row_a_format_and_span(tmp_path, monkeypatch, capsys, gpt2, tokenizer):
    gpt2.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "words.txt").write_text("moon\nstar\n", encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("the sun\n\n", encoding="utf-8")
    script(
        ["--model", str(tmp_path), "--device", "cpu", "--bag", str(tmp_path / "words.txt"), "--dtype", "bfloat16",
         "--prompts", str(tmp_path / "prompts.txt"), "--num-samples", "1", "--max-new-tokens", "2",
         "--json", str(tmp_path / "rows.json")],
        monkeypatch,
    )  # fmt: skip
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| bfloat16")]
    assert [line.split(" | ")[1].rstrip() for line in lines] == SPANS
    assert '"median_same_tokens"' in (tmp_path / "rows.json").read_text(encoding="utf-8")


def test_the_script_without_an_attribute_says_what_to_add(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        script(["--device", "cpu"], monkeypatch)
    assert stopped.value.code == 2
    assert "add --bag space" in capsys.readouterr().err
