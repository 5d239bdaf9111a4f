"""`pplm explain`: the cause it names, and numbers that agree with the text's own."""

import json
import re
import shlex
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import decode

import pplm
from attribute_models import Avoid, BagOfWords, Discriminator
from attribute_models.entries import Entry
from attribute_models.word_shares import WordShares
from pplm.cli import main
from pplm.explanation.causes import find_causes
from pplm.explanation.facts import AttributeFacts, Level, TextFacts, TokenFacts, WordFacts
from pplm.interface import SteeringStep

DOCS = (Path(__file__).resolve().parent.parent / "docs" / "explain.md").read_text(encoding="utf-8")
ODD = "wug,blicket"
"""Words of the embedded model that steering cannot begin."""


@pytest.fixture(autouse=True)
def one_model(monkeypatch, embedded):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: embedded)


@pytest.fixture
def run(command):
    return partial(command, "explain", "The lake", "--seed", 3, "--max-new-tokens", 12)


@pytest.fixture
def told(run):
    """Run with --json and return the object."""

    def call(*arguments):
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


def explained(embedded, bag, length=12, **fields):
    steering = pplm.SteeringConfig.for_attributes([bag], presets=pplm.steering_presets(embedded[0]), **fields)
    sampling = {"do_sample": True, "top_k": 10, "max_new_tokens": length}
    return pplm.explain(*embedded, "The lake", attributes=[bag], steering=steering, seed=3, **sampling)


# --- the cause -------------------------------------------------------------------------------------------------


def test_a_bag_that_cannot_begin_is_explained_where_generate_refuses_it(run, command):
    code, out, err = run("--words", ODD)
    assert code == 0, err
    assert "no word of bag words can be begun" in out
    assert "2 words, 0 can be begun" in out
    code, out, err = command("generate", "The lake", "--words", ODD, "--max-new-tokens", 2)
    assert (code, out) == (2, "")
    assert "can begin none" in err


def test_a_step_too_small_is_named_and_a_longer_one_is_not(told):
    small = told("--bag", "space", "--step-size", 0.01)
    assert small["causes"][0]["name"] == "step_too_small"
    assert "step_size (now 0.01)" in small["causes"][0]["remedy"]
    assert 0 < small["spent"] < 1e-5
    assert small["moved"] == len(small["tokens"]) == 12
    usual = told("--bag", "space", "--step-size", 5)
    assert usual["spent"] > 1000 * small["spent"]
    assert usual["causes"][0]["name"] != "step_too_small"


def test_a_budget_of_0_is_named(told, run):
    found = told("--bag", "space", "--strength", 0)
    assert found["causes"][0]["name"] == "nothing_allowed"
    assert (found["budget"], found["spent"], found["moved"], found["steered"]) == (0, 0, 0, False)
    code, out, _ = run("--bag", "space", "--strength", 0)
    assert code == 0
    assert "strength is 0: the budget is 0 nats per token" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--bag", "space", "--gm-scale", 0), "nothing_allowed"),
        (("--bag", "space:0"), "nothing_allowed"),
        (("--bag", "space", "--strength", 0.05), "budget_too_small"),
        (("--bag", "space", "--gm-scale", 0.01), "share_too_small"),
        (("--bag", "space", "--target", 0.0003), "target_met"),
        (("--bag", "space", "--steer-every", 10, "--strength", 0.5), "few_tokens"),
        (("--bag", "space", "--skip-below", 100), "few_tokens"),
        (("--bag", "space", "--strength", 0.5, "--max-new-tokens", 30), "shown"),
        (("--avoid-bag", "legal"), "shown"),
        (("--discriminator", "sentiment:positive"), "shown"),
        (("--bag", "space", "--words", ODD, "--strength", 0.5), "cannot_begin"),
    ],
)
def test_other_causes_are_named(told, arguments, cause):
    found = told(*arguments)
    assert found["causes"][0]["name"] == cause
    assert (found["causes"][0]["remedy"] == "") == (cause == "shown")


def test_of_several_attributes_each_has_its_cause_and_what_to_put_right_comes_first(told):
    causes = told("--bag", "space", "--words", ODD, "--strength", 0.5, "--max-new-tokens", 30)["causes"]
    assert [(cause["name"], cause["attribute"]) for cause in causes] == [("cannot_begin", "words"), ("shown", "space")]


def facts(*, final, drawn, written=0, spent=0.05, acted=10, pull=None, count=10, reach=("begun",), **fields):
    """Facts of a bag of a word or more, all tokens alike."""
    level = Level(0.001, final, drawn)
    total = Level(0.001 * count, final * count, drawn * count)
    words = tuple(WordFacts("moon", own, total, 0, final, written) for own in reach)
    own = AttributeFacts("sky", "bag_of_words", 1.0, False, None, acted, 0.4, pull, level, final, words)
    token = TokenFacts(1, " a", True, 1.0, 2.0, 0.4, spent, 0.5, spent, {"sky": level})
    return TextFacts(None, pplm.SteeringConfig(strength=0.5, **fields), (own,), (token,) * count)


def head_facts(reached, *, avoids):
    """Facts of a head whose class has a probability at the text's end."""
    some = facts(final=0.2, drawn=0.0)
    own = AttributeFacts("mood", "discriminator", 1.0, avoids, None, 10, 0.4, None, None, reached)
    return replace(some, attributes=(own,))


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (facts(final=0.2, drawn=0.01), ["sampling"]),
        (facts(final=0.2, drawn=0.15), ["chance"]),
        (facts(final=0.2, drawn=0.0, written=1), ["shown"]),
        (facts(final=0.02, drawn=0.0), ["too_weak"]),
        (facts(final=0.02, drawn=0.02, acted=0), ["never_acted"]),
        (facts(final=0.02, drawn=0.02, acted=0, grad_length=3), ["few_tokens"]),
        (facts(final=0.02, drawn=0.0, acted=7, grad_length=7), ["too_weak"]),
        (facts(final=0.02, drawn=0.0, reach=("begun", "completed")), ["too_weak"]),
        (facts(final=0.02, drawn=0.0, reach=("begun", "completed", "unspelt")), ["too_weak", "few_begun"]),
        (head_facts(0.45, avoids=False), ["shown"]),
        (head_facts(0.3, avoids=False), ["too_weak"]),
        (head_facts(0.3, avoids=True), ["shown"]),
        (head_facts(0.9, avoids=True), ["too_weak"]),
        (facts(final=0.02, drawn=0.02, spent=1e-6), ["step_too_small"]),
        (facts(final=0.02, drawn=0.02, pull=-0.9), ["too_weak", "pulls_apart"]),
    ],
)
def test_a_cause_is_read_off_what_was_measured(found, names):
    assert [cause.name for cause in find_causes(found)] == names


def test_chances_are_told_in_words_and_in_texts():
    (cause,) = find_causes(facts(final=0.2, drawn=0.15))
    assert cause.what.startswith("1.5 words were to be expected in 10 tokens; with such chances 20% of texts have none")
    (cause,) = find_causes(facts(final=0.2, drawn=0.01))
    assert cause.what.startswith("after steering 2.0 words were to be expected in 10 tokens")
    assert cause.what.endswith("left 0.1")


# --- the numbers -----------------------------------------------------------------------------------------------


def test_what_is_wanted_and_avoided_at_once_pulls_apart(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon", "sea"], tokenizer, name="sky")
    found = pplm.explain(gpt2, tokenizer, "The cat", attributes=[bag, Avoid(bag)], seed=0, max_new_tokens=3)
    assert [own.pull < -0.99 for own in found.facts.attributes] == [True, True]
    assert [cause.attribute for cause in found.causes if cause.name == "pulls_apart"] == ["sky", "avoid sky"]


def test_a_warning_that_is_not_about_steering_is_shown_as_usual(gpt2, tokenizer):
    class Odd:
        def loss(self, step):
            warnings.warn("an odd model", UserWarning, stacklevel=1)
            return -step.log_probs[:, 5]

    with pytest.warns(UserWarning, match="an odd model"):
        found = pplm.explain(gpt2, tokenizer, "The cat", attributes=[Odd()], seed=0, max_new_tokens=1)
    assert "an odd model" not in found.facts.warnings


def test_the_text_is_the_one_that_generate_writes(embedded):
    bag = BagOfWords.load("space", embedded[1])
    steering = pplm.SteeringConfig.for_attributes([bag], presets=pplm.steering_presets(embedded[0]))
    arguments = {"attributes": [bag], "steering": steering, "seed": 3, "do_sample": True, "max_new_tokens": 12}
    texts = pplm.generate(*embedded, "The lake", num_samples=3, top_k=10, **arguments)
    found = pplm.explain(*embedded, "The lake", sample=1, top_k=10, repetition_penalty=1.0, **arguments)
    assert found.facts.text == texts[1]
    assert [token.final_kl for token in found.facts.tokens] == texts[1].final_kl
    assert "".join(token.text for token in found.facts.tokens) == texts[1].completion


def test_levels_are_those_of_the_dial_and_only_what_top_k_leaves_is_drawn(embedded):
    found = explained(embedded, BagOfWords.load("space", embedded[1]), strength=0.5)
    (own,) = found.facts.attributes
    assert own.level.final == pytest.approx(found.facts.text.levels["space"], rel=1e-4)
    assert own.level.gain > 0.001
    assert 0 < found.facts.spent <= found.facts.budget == pytest.approx(0.15)
    sums = [sum(word.total.final for word in own.words), sum(word.total.unsteered for word in own.words)]
    assert sums == pytest.approx([own.level.final * 12, own.level.unsteered * 12])
    one = {token.levels["bag"].drawn for token in explained_greedily(embedded).facts.tokens}
    assert one <= {0.0, 1.0}


def explained_greedily(embedded):
    bag = BagOfWords.from_words(["lake", "sea"], embedded[1])
    return pplm.explain(*embedded, "The lake", attributes=[bag], do_sample=True, top_k=1, seed=0, max_new_tokens=6)


def test_a_token_that_was_not_steered_gained_nothing_at_all(embedded):
    found = explained(embedded, BagOfWords.load("space", embedded[1]), strength=0.5, grad_length=0, length=4)
    assert {token.levels["space"].gain for token in found.facts.tokens} == {0.0}
    assert all(word.best_token is None for word in found.facts.attributes[0].words)


def test_the_words_parts_add_up_to_the_bag_s_level_after_any_text(gpt2):
    entries = (
        Entry("moon", (5,)), Entry("moon", (6, 7), 1.0, after_opener=True), Entry("moonlight", (5, 8), 0.5),
        Entry("starry", (9, 10, 11)), Entry("star", (9, 10), 0.25), Entry("sun", (12,), 1.0, after_opener=True),
    )  # fmt: skip
    bag = BagOfWords(entries, len(gpt2.get_input_embeddings().weight), "sky", openers=(3, 6))
    bound = bag.for_model(gpt2, avoided=True)
    words = WordShares.of(bound)
    assert words.words == ("moon", "moonlight", "starry", "star", "sun")
    generator = torch.Generator().manual_seed(0)
    texts = [[1, 2], [3], [1, 3], [1, 9], [9], [4, 9, 10], [3, 6], [6], [1, 6], [1, 5], [9, 9, 10]]
    for ids in texts:
        logits = torch.randn(2, bag.vocab_size, generator=generator) * 3
        step = SteeringStep(torch.tensor([ids, ids]), torch.ones(2, len(ids), dtype=torch.bool), logits, None)
        assert torch.allclose(words.shares(step).sum(-1), (-bound.loss(step)).exp(), rtol=1e-5), ids


def test_words_are_counted_where_they_stand_by_themselves(tokenizer):
    bag = BagOfWords.from_words(["moon", "full moon", "\u6708"], tokenizer)
    count = WordShares.of(bag).count("Moon, a full  moon; moonlight \u4e00\u6708\u6708")
    assert count == {"moon": 2, "full moon": 1, "\u6708": 2}


def test_an_avoided_bag_s_words_can_lose(embedded):
    found = explained(embedded, Avoid(BagOfWords.from_words(["water", "sea", "high"], embedded[1])), strength=0.8)
    (own,) = found.facts.attributes
    assert own.avoids
    assert own.level.gain < 0
    assert {word.word for word in own.words} == {"water", "sea", "high"}


def test_an_attribute_model_without_words_is_explained_by_its_losses(embedded):
    class Few:
        name = "few"

        def loss(self, step):
            return -step.log_probs[:, :50].logsumexp(-1)

    found = explained(embedded, Few(), strength=0.5, length=5)
    (own,) = found.facts.attributes
    assert (own.words, own.acted) == ((), 5)
    assert own.loss_fall > 0
    assert own.level.gain > 0
    assert own.level.drawn is None


def test_a_head_s_level_rises_token_by_token_and_how_far_the_history_moved_is_told(embedded):
    found = explained(embedded, Discriminator.load("sentiment", "positive"), strength=0.8)
    (own,) = found.facts.attributes
    assert own.level.gain > 0.002
    assert own.reached == found.facts.text.levels["sentiment"]
    levels = [token.levels["sentiment"] for token in found.facts.tokens]
    assert own.level.final == pytest.approx(sum(level.final for level in levels) / 12)
    lengths = [token.step_length for token in found.facts.tokens]
    assert all(length > 0 for length in lengths)
    assert found.record()["tokens"][3]["step_length"] == lengths[3]


def test_explaining_changes_no_weight_and_leaves_the_bag_as_it_is(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon", "sea"], tokenizer)
    before = decode(gpt2, [[5, 9, 33]], [bag], new=3).sequences
    pplm.explain(gpt2, tokenizer, "The cat", attributes=[bag], seed=0, max_new_tokens=3)
    assert bag.completions is None
    assert torch.equal(before, decode(gpt2, [[5, 9, 33]], [bag], new=3).sequences)


# --- how it is shown -------------------------------------------------------------------------------------------


def test_a_piped_report_is_plain_and_fits_into_80_columns(run):
    code, out, err = run("--bag", "space", "--strength", 0.5)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert not any(line.endswith(" ") for line in out.splitlines())
    assert "\x1b" not in out
    assert out.startswith("[steered 1] The lake")
    assert err.startswith("steering: the dial, strength 0.5")
    assert "12 of 12" in out
    assert "0.15 nats per token" in out


def test_a_seed_that_was_drawn_is_told_on_stderr(command):
    code, out, err = command("explain", "The lake", "--bag", "space", "--max-new-tokens", 2, "--json")
    assert code == 0
    assert f"seed {json.loads(out)['seed']}\n" in err


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        ((), "needs an attribute"),
        (("--bag", "spcae"), "spcae"),
        (("--bag", "space", "--sample", 0), "--sample"),
        (("--bag", "space", "--greedy", "--sample", 2), "--sample 2"),
        (("--bag", "space", "--system", "Be a cat"), "--chat"),
        (("--bag", "space", "--step-size", 1, "--strength", 0.5), "step_size"),
        (("--bag", "space", "--rerank", 3), "--rerank"),
        (("another prompt", "--bag", "space"), "another prompt"),
    ],
)
def test_what_cannot_be_explained_is_one_line_and_exit_code_2(run, arguments, needle):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert needle in err


def test_python_refuses_several_prompts_and_no_attribute(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon"], tokenizer)
    with pytest.raises(pplm.InputError, match="explain takes one prompt; got 2"):
        pplm.explain(gpt2, tokenizer, ["a", "b"], attributes=[bag])
    with pytest.raises(pplm.InputError, match="needs an attribute"):
        pplm.explain(gpt2, tokenizer, "a", attributes=[])
    with pytest.raises(pplm.InputError, match="sample must be"):
        pplm.explain(gpt2, tokenizer, "a", attributes=[bag], sample=-1)


def test_a_conversation_can_be_explained(chat):
    head = Discriminator.from_weights(torch.eye(2, 32), torch.zeros(2), ["a", "b"], "a", name="taste")
    messages = [{"role": "user", "content": "The sea?"}]
    found = pplm.explain(*chat, messages, attributes=[head], seed=0, max_new_tokens=1)
    assert found.cause.name == "never_acted"
    assert "horizon_length 1" in found.cause.remedy
    assert found.facts.warnings


# --- the documentation -----------------------------------------------------------------------------------------


def test_every_field_and_cause_is_documented(told):
    found = told("--bag", "space", "--discriminator", "sentiment:positive")
    names = {*found, *found["attributes"][0], *found["attributes"][0]["words"][0], *found["tokens"][0]}
    causes = (Path(pplm.__file__).parent / "explanation" / "causes.py").read_text(encoding="utf-8")
    names |= set(re.findall(r'Cause\(\s*"(\w+)"', causes)) | pplm.Generation.recorded_fields()
    assert len(names) > 50
    assert [name for name in sorted(names) if f"`{name}`" not in DOCS] == []


def test_the_first_report_of_the_docs_is_what_comes_out(capsys):
    line, block = (part.strip("\n") for part in DOCS.split("```")[1:4:2])
    main(shlex.split(line)[1:])
    captured = capsys.readouterr()
    assert block == (captured.err + captured.out).strip("\n")
