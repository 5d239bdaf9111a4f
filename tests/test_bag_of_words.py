"""Bags of words: what a token is credited with, and what is said and refused about a bag.

The tiny tokenizer knows " moon", " star", " sun", " sea" and " cat" and spells everything else byte by byte.
"""

import copy
import gc
import pickle
import weakref
from dataclasses import replace

import pytest
import torch
from helpers import STRONG, decode
from transformers import GPT2LMHeadModel

import pplm
from attribute_models import Avoid, BagOfWords
from attribute_models.completion import completion_probabilities
from attribute_models.credit import CreditTables
from attribute_models.entries import Entry
from pplm import InputError
from pplm.interface import SteeringStep
from pplm.models.resources import data_path, shipped_names

LISTS = [
    "computers",
    "fantasy",
    "kitchen",
    "legal",
    "military",
    "monsters",
    "politics",
    "positive",
    "religion",
    "science",
    "space",
    "technology",
]


def step(logits, ids=None):
    ids = torch.zeros(logits.shape[0], 1, dtype=torch.long) if ids is None else torch.as_tensor(ids)
    return SteeringStep(ids, torch.ones_like(ids).bool(), logits, lambda: None)


def random_logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def credit(bag, ids, token, size=None):
    """Return what a bag credits a token with after a text: its mass where the token is certain."""
    logits = torch.full((1, size or bag.vocab_size), -1000.0)
    logits[0, token] = 1000.0
    return round(bag.log_mass(step(logits, [ids])).exp().item(), 15)  # a text where nothing counts has a tiny mass


@pytest.fixture
def every_beginning(monkeypatch):
    """Credit beginnings however seldom they are completed, which the tiny model almost never does."""
    monkeypatch.setattr("attribute_models.credit.LEAST_COMPLETION", 0.0)


def rest(model, sequence, after):
    """Return the probability of a sequence's tokens from `after` on, by one pass for each of them."""
    probability = 1.0
    for position in range(after, len(sequence)):
        ids = torch.tensor([[model.config.bos_token_id, *sequence[:position]]])
        probability *= model(ids).logits[0, -1].softmax(-1)[sequence[position]].item()
    return probability


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


# --- shipped lists ---------------------------------------------------------------------------------------------


def test_the_promised_lists_are_shipped():
    assert set(LISTS) <= set(shipped_names("bags_of_words", ".txt"))


@pytest.mark.parametrize("name", LISTS)
def test_a_shipped_list_is_lower_case_of_fair_size_and_mostly_single_tokens(embedded, name):
    lines = data_path("bags_of_words", f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert 60 <= len(lines) <= 200
    assert lines == [line.strip().lower() for line in lines]
    assert all(lines)
    assert len(set(lines)) == len(lines)
    tokenizer = embedded[1]
    bag = BagOfWords.from_words(lines, tokenizer, name=name)
    assert bag.words == tuple(lines)
    assert bag.unmatched == ()
    assert sum(len(ids) == 1 for ids in tokenizer([f" {word}" for word in lines]).input_ids) >= 40
    assert len(lines) - len(bag.long_words) >= 40


def test_a_shipped_list_is_loaded_by_its_name(embedded):
    bag = BagOfWords.load("space", embedded[1])
    assert bag.name == "space"
    assert "planet" in bag.words
    assert embedded[1].encode(" planet") in [list(entry.token_ids) for entry in bag.entries]


# --- the loss --------------------------------------------------------------------------------------------------


def test_the_loss_is_minus_the_log_of_the_summed_probability():
    logits = random_logits(3, 20)
    bag = BagOfWords.from_token_ids([4, 7, 15], 20)
    wanted = -logits.softmax(-1)[:, [4, 7, 15]].sum(-1).log()
    torch.testing.assert_close(bag.loss(step(logits)), wanted)


def test_a_words_mass_is_that_of_all_its_single_token_spellings(embedded):
    tokenizer = embedded[1]
    bag = BagOfWords.from_words(["day"], tokenizer)
    logits = random_logits(1, len(tokenizer))
    probability = logits.softmax(-1)[0]
    spaced = [tokenizer.convert_tokens_to_ids(token) for token in ("Ġday", "ĠDay")]
    bare = [tokenizer.convert_tokens_to_ids(token) for token in ("day", "Day")]
    assert {entry.token_ids for entry in bag.entries if len(entry.token_ids) == 1} >= {(i,) for i in spaced}
    inside = bag.loss(step(logits, [tokenizer.encode("the")]))
    assert inside.item() == pytest.approx(-probability[spaced].sum().log().item(), rel=1e-5)
    known = [i for i in bare if (i,) in {entry.token_ids for entry in bag.entries}]
    assert known
    opened = bag.loss(step(logits, [tokenizer.encode("the (")]))
    assert opened.item() == pytest.approx(-probability[spaced + known].sum().log().item(), rel=1e-5)


def test_without_casing_only_the_listed_case_counts(tokenizer):
    (capital,) = tokenizer.encode("M")
    opened = tokenizer.encode("the (")
    with_case, without = (
        replace(bag, completions=tuple((0.5,) * (len(e.token_ids) - 1) for e in bag.entries))
        for bag in (BagOfWords.from_words(["moon"], tokenizer, casing=casing) for casing in (True, False))
    )
    assert credit(with_case, opened, capital) == pytest.approx(0.5)
    assert credit(without, opened, capital) == 0


def test_a_token_named_twice_counts_once():
    logits = random_logits(2, 20)
    once, twice = BagOfWords.from_token_ids([4, 7], 20), BagOfWords.from_token_ids([7, 4, 4], 20)
    assert torch.equal(once.loss(step(logits)), twice.loss(step(logits)))


def test_the_loss_of_a_nearly_impossible_bag_is_large_and_finite():
    logits = torch.zeros(1, 10)
    logits[0, 3] = -500.0
    logits.requires_grad_()
    loss = BagOfWords.from_token_ids([3], 10).loss(step(logits))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == pytest.approx(500 + torch.tensor(9.0).log().item())
    assert gradient.isfinite().all()


def test_a_text_where_nothing_is_credited_has_an_infinite_loss_and_no_gradient(gpt2, tokenizer):
    bag = BagOfWords.from_words(["quixotic zebra jumps vexing foxes while wizards brew"], tokenizer)
    bag = bag.for_model(gpt2, avoided=True)
    for attribute in (bag, Avoid(bag)):
        logits = random_logits(2, 272).requires_grad_()
        loss = attribute.loss(step(logits, [tokenizer.encode("b the"), tokenizer.encode("quixo")]))
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isinf().all()
        assert gradient.eq(0).all()


@pytest.mark.parametrize(
    "kl_scale",
    [
        0.0,
        0.01,
    ],
)
def test_a_text_where_nothing_is_ever_credited_is_the_unsteered_one(gpt2, tokenizer, kl_scale):
    bag = BagOfWords.from_words(["quixotic zebra jumps"], tokenizer)
    steering = pplm.SteeringConfig(kl_scale=kl_scale)
    settings = {"steering": steering, "max_new_tokens": 3, "do_sample": False}
    steered, plain = (pplm.generate(gpt2, tokenizer, "the", attributes=a, **settings)[0] for a in ([Avoid(bag)], []))
    assert steered.token_ids == plain.token_ids


def test_a_text_where_nothing_is_credited_does_not_disturb_its_neighbour_in_the_batch(tokenizer):
    bag = BagOfWords.from_words(["sun sea"], tokenizer)
    logits = random_logits(2, 272).requires_grad_()
    loss = bag.loss(step(logits, [tokenizer.encode("the")[:2], tokenizer.encode("e sun")]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[0].eq(0).all()
    assert gradient[1].isfinite().all()
    assert gradient[1, tokenizer.convert_tokens_to_ids("Ġsea")] < 0


def test_rows_are_judged_each_by_its_own_text(gpt2, tokenizer):
    with pytest.warns(pplm.SteeringWarning, match="can begin 1 of its 3 words"):
        bag = BagOfWords.from_words({"moon": 1.0, "zebra": 0.5, "sun sea": 1.0}, tokenizer).for_model(gpt2)
    texts = ["the sun", "bb zebr", "xxxxx (", "a moon."]
    ids = [tokenizer.encode(text)[-4:] for text in texts]
    ids = [[0] * (4 - len(row)) + row for row in ids]
    logits = random_logits(4, 272)
    together = bag.loss(step(logits, ids))
    singles = [bag.loss(step(logits[row : row + 1], ids[row : row + 1])) for row in range(4)]
    torch.testing.assert_close(together, torch.cat(singles))
    # The texts do matter: " moon" always counts, and what completes "sun sea" or, for half, "zebra" where they begin.
    same = bag.log_mass(step(torch.zeros(4, 272), ids)).exp()
    assert (272 * same).tolist() == pytest.approx([2.0, 1.5, 1.0, 1.0], rel=1e-3)


def test_a_bag_can_be_looked_at_in_inference_mode_and_steered_with_afterwards(gpt2, tokenizer):
    with torch.inference_mode():
        bag = BagOfWords.from_token_ids([4, 5], 272)
        bag.report(gpt2)
    text = pplm.generate(gpt2, tokenizer, "the", attributes=[bag], max_new_tokens=1, do_sample=False)[0]
    assert text.attribute_loss[0][-1] < text.attribute_loss[0][0]


# --- credits ---------------------------------------------------------------------------------------------------


def test_a_first_piece_is_credited_with_the_models_own_probability_of_the_rest(gpt2, tokenizer, every_beginning):
    bag = BagOfWords.from_words(["ox", "zebra"], tokenizer, casing=False).for_model(gpt2)
    space, *_ = tokenizer.encode(" ox")
    spelt = [tokenizer.encode(text) for text in (" ox", " zebra")]
    assert all(sequence[0] == space for sequence in spelt)
    wanted = sum(rest(gpt2, sequence, after=1) for sequence in spelt)
    assert credit(bag, tokenizer.encode("the"), space) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("position", range(1, 4))
def test_a_later_piece_is_credited_with_the_probability_of_what_is_still_missing(
    gpt2, tokenizer, position, every_beginning
):
    bag = BagOfWords.from_words(["moonray"], tokenizer, casing=False).for_model(gpt2)
    sequence = tokenizer.encode(" moonray")
    assert len(sequence) == 4
    begun = tokenizer.encode("the") + sequence[:position]
    wanted = rest(gpt2, sequence, after=position + 1)
    assert credit(bag, begun, sequence[position]) == pytest.approx(wanted, rel=1e-4)


def test_the_piece_that_completes_a_word_is_credited_in_full_where_the_text_has_begun_it(tokenizer):
    bag = BagOfWords.from_words(["zebra"], tokenizer)
    (last,) = tokenizer.encode("a")
    assert credit(bag, tokenizer.encode("the zebr"), last) == 1
    assert credit(bag, tokenizer.encode("the Zebr"), last) == 1
    assert credit(bag, tokenizer.encode("the (zebr"), last) == 1
    assert credit(bag, tokenizer.encode("zebr"), last) == 1
    for text in ("the zeb", "the zebrr", "the ebr", "the zebr ", "the zEbr", "r"):
        assert credit(bag, tokenizer.encode(text), last) == 0, text


def test_a_phrase_is_completed_by_its_last_word(tokenizer):
    bag = BagOfWords.from_words(["sun sea"], tokenizer)
    sun, sea = tokenizer.convert_tokens_to_ids(["Ġsun", "Ġsea"])
    assert credit(bag, [5, sun], sea) == 1
    assert credit(bag, [sun, 5], sea) == 0
    assert credit(bag, [5, sea], sun) == 0


def test_a_spelling_without_a_space_is_not_completed_inside_another_word(tokenizer):
    bag = BagOfWords.from_words(["cats"], tokenizer, casing=False)
    (last,) = tokenizer.encode("s")
    assert credit(bag, tokenizer.encode("the (cat"), last) == 1
    assert credit(bag, tokenizer.encode("cat"), last) == 1
    assert credit(bag, tokenizer.encode("the cat"), last) == 1
    assert credit(bag, tokenizer.encode("the bobcat"), last) == 0


def test_a_spelling_without_a_space_begins_after_an_opener_alone(tokenizer):
    bag = BagOfWords.from_token_ids([9], 272)
    bag = replace(bag, entries=(Entry("x", (9,)), Entry("x", (30,), after_opener=True)), openers=(7,))
    assert credit(bag, [5, 7], 30) == 1
    assert credit(bag, [7, 5], 30) == 0
    assert credit(bag, [5, 7], 9) == credit(bag, [7, 5], 9) == 1


def test_a_beginning_that_is_hardly_ever_completed_is_not_credited():
    bag = BagOfWords((Entry("a", (1, 2)), Entry("b", (3, 4))), 10, completions=((0.0101,), (0.0099,)))
    assert credit(bag, [9], 1) == pytest.approx(0.0101)
    assert credit(bag, [9], 3) == 0
    assert credit(bag, [3], 4) == 1


def test_a_first_piece_that_begins_many_words_earns_nothing(embedded):
    """ " s" as the beginning of saucepan; credited as if it were the word, it would earn 1."""
    model, tokenizer = embedded
    words = [word for word in ("saucepan", "spatula", "skillet") if len(tokenizer.encode(f" {word}")) > 1]
    assert words
    bag = BagOfWords.from_words(words, tokenizer).for_model(model, avoided=True)
    first = {tokenizer.encode(f" {word}")[0] for word in words}
    text = tokenizer.encode("She put it in the")
    for token in first:
        assert credit(bag, text, token) == 0
    logits = model(torch.tensor([text])).logits[:, -1]
    naive = BagOfWords.from_token_ids(sorted(first), len(tokenizer))
    assert bag.log_mass(step(logits, [text])).exp() < 1e-6 * naive.log_mass(step(logits, [text])).exp()


def test_weights_scale_the_credit_of_every_piece(gpt2, tokenizer, every_beginning):
    full, scaled = (
        BagOfWords.from_words({"moonray": weight, "cat": weight, "sun": 4.0}, tokenizer, casing=False).for_model(gpt2)
        for weight in (4.0, 1.0)
    )
    cat, sun = tokenizer.convert_tokens_to_ids(["Ġcat", "Ġsun"])
    text = tokenizer.encode("the")
    assert scaled.weights == {"moonray": 0.25, "cat": 0.25, "sun": 1.0}
    assert credit(full, text, cat) == credit(scaled, text, sun) == 1
    assert credit(scaled, text, cat) == pytest.approx(0.25)
    pieces = tokenizer.encode(" moonray")
    for position, piece in enumerate(pieces):
        begun = text + pieces[:position]
        assert credit(scaled, begun, piece) == pytest.approx(0.25 * credit(full, begun, piece), rel=1e-4)
    assert credit(scaled, text + pieces[:-1], pieces[-1]) == pytest.approx(0.25)


def test_a_token_is_never_credited_with_more_than_1(tokenizer):
    entries = (Entry("a", (1,)), Entry("b", (1, 2)), Entry("c", (3, 2)), Entry("d", (5, 3, 2)), Entry("e", (1, 4)))
    bag = BagOfWords(entries, 10, completions=((), (0.9,), (0.0,), (0.0, 0.0), (0.8,)))
    assert credit(bag, [9], 1) == 1
    assert credit(bag, [5, 3], 2) == 1
    logits = random_logits(1, 10)
    outside = logits.softmax(-1)[0, [0, 6, 7, 8, 9]].sum()
    assert bag.log_mass(step(logits, [[5, 3]])).exp() <= 1 - outside


def test_credits_of_several_words_that_begin_alike_add_up():
    bag = BagOfWords((Entry("a", (1, 2)), Entry("b", (1, 3), 0.5)), 10, completions=((0.25,), (0.5,)))
    assert credit(bag, [9], 1) == pytest.approx(0.25 + 0.5 * 0.5)


def test_a_bag_that_knows_no_language_model_credits_completions_alone(tokenizer):
    bag = BagOfWords.from_words(["moon", "zebra"], tokenizer, casing=False)
    space, z = tokenizer.encode(" z")
    assert bag.completions is None
    assert credit(bag, [5], space) == 0
    assert credit(bag, [5, space], z) == 0
    assert credit(bag, tokenizer.encode("the zebr"), *tokenizer.encode("a")) == 1
    assert credit(bag, [5], tokenizer.convert_tokens_to_ids("Ġmoon")) == 1


def test_adapting_to_a_model_happens_once_and_only_where_it_is_needed(gpt2, tokenizer):
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    bound = bag.for_model(gpt2)
    assert bag.completions is None
    assert bound.for_model(gpt2) is bound
    assert [len(c) for c in bound.completions] == [len(e.token_ids) - 1 for e in bound.entries]
    assert (bound.name, bound.entries, bound.openers) == (bag.name, bag.entries, bag.openers)
    single = BagOfWords.from_token_ids([3], 272)
    assert single.for_model(gpt2) is single


@pytest.fixture
def readings(monkeypatch):
    """Collect the models that are asked for completion probabilities."""
    seen = []
    real = completion_probabilities

    def spy(model, *arguments):
        seen.append(model)
        return real(model, *arguments)

    monkeypatch.setattr("attribute_models.bag_of_words.completion_probabilities", spy)
    return seen


def another(gpt2):
    """Return a model of the same vocabulary and other weights."""
    torch.manual_seed(7)
    return pplm.freeze(GPT2LMHeadModel(gpt2.config))


def test_a_model_is_asked_for_completions_once_however_often_a_bag_is_used(gpt2, tokenizer, readings):
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    for attributes in ([bag], [Avoid(bag)], [bag.for_model(gpt2)]):
        pplm.generate(gpt2, tokenizer, ["the", "a"], attributes=attributes, max_new_tokens=1, max_batch_size=1)
    assert len(readings) == 1


def test_a_bag_that_is_bound_to_one_model_is_bound_again_for_another(gpt2, tokenizer, readings):
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    other = another(gpt2)
    first, second = bag.for_model(gpt2), bag.for_model(gpt2).for_model(other)
    assert readings == [gpt2, other]
    assert second.completions == BagOfWords.from_words(["zebra", "moon"], tokenizer).for_model(other).completions
    assert second.completions != first.completions
    assert second.for_model(gpt2) is first


def test_a_bag_is_bound_again_after_the_model_has_been_trained(gpt2, tokenizer, readings):
    bag, model = BagOfWords.from_words(["zebra", "moon"], tokenizer), another(gpt2)
    before = bag.for_model(model)
    model.transformer.h[0].mlp.c_fc.weight.data += 0.1  # as merging an adapter does: unseen by autograd's counters
    after = bag.for_model(model)
    assert after.completions != before.completions
    assert len(readings) == 2


def test_a_bag_does_not_keep_a_model_alive(gpt2, tokenizer):
    bag, model = BagOfWords.from_words(["zebra", "moon"], tokenizer), another(gpt2)
    bound, alive = bag.for_model(model), weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert bound.completions is not None


def test_a_bound_bag_can_be_copied_and_pickled(gpt2, tokenizer):
    bound = BagOfWords.from_words(["zebra", "moon"], tokenizer).for_model(gpt2)
    for copied in (copy.deepcopy(bound), pickle.loads(pickle.dumps(bound))):  # noqa: S301
        assert copied.completions == bound.completions
        assert copied.for_model(gpt2).completions == bound.completions


def test_progress_counts_the_spellings_of_several_tokens(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon", *(f"zebra{n}" for n in range(40))], tokenizer, casing=False)
    steps = []
    bag.for_model(gpt2, avoided=True, on_progress=lambda *step: steps.append(step))
    assert steps == [(32, 81), (64, 81), (81, 81)]


def test_completions_do_not_depend_on_the_batch_they_are_read_in(gpt2, tokenizer):
    words = [f"{a}{b}{'x' * (b % 3)}" for a in ("ab", "cd", "efg") for b in range(15)]
    together = BagOfWords.from_words(words, tokenizer, casing=False).for_model(gpt2, avoided=True)
    assert len(together.entries) > 64
    for number in (0, 33, 65, len(together.entries) - 1):
        sequence = together.entries[number].token_ids
        wanted = [rest(gpt2, sequence, after) for after in range(1, len(sequence))]
        assert together.completions[number] == pytest.approx(wanted, rel=1e-3)


def test_decoding_adapts_a_bag_to_its_model(gpt2, tokenizer):
    """The first loss that is reported is the bound bag's in the unsteered text."""
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    output = pplm.generate(gpt2, tokenizer, "the", attributes=[bag], max_new_tokens=1, do_sample=False)[0]
    ids = torch.tensor([[gpt2.config.bos_token_id, *tokenizer.encode("the")]])
    wanted = bag.for_model(gpt2).loss(step(gpt2(ids).logits[:, -1], ids)).item()
    assert output.attribute_loss[0][0] == pytest.approx(wanted, rel=1e-4)


# --- reports ---------------------------------------------------------------------------------------------------


def test_a_report_counts_words_spellings_and_tokens_and_names_the_long_ones(tokenizer):
    report = BagOfWords.from_words(["moon", "zebra", "sun sea"], tokenizer, name="mixed", casing=False).report()
    assert (report.name, report.words, report.spellings, report.mass) == ("mixed", 3, 6, None)
    assert report.long_words == ("zebra", "sun sea")
    letters = set("moon" + "zebra" + "sun") | {" "}
    assert report.tokens == len(letters) + 3  # " moon", " sun", " sea"
    assert str(report) == "bag mixed: 3 words, 2 of them of several tokens"


def test_a_report_of_single_tokens_is_short():
    report = BagOfWords.from_token_ids([3, 4], 10, name="two").report()
    assert (report.words, report.long_words, report.spellings, report.tokens) == (2, (), 2, 2)
    assert str(report) == "bag two: 2 words"


def test_a_report_names_what_cannot_be_spelt():
    report = BagOfWords((Entry("a", (1,)),), 10, unmatched=("b", "c")).report()
    assert report.unmatched == ("b", "c")
    assert str(report) == "bag bag: 1 words; 2 cannot be spelt and are left out: b, c"


def test_the_reported_mass_is_the_mean_over_the_models_own_texts(gpt2):
    from attribute_models.own_texts import own_texts

    report = BagOfWords.from_token_ids([3, 4, 5], 272).report(gpt2)
    wanted = own_texts(gpt2)[1].exp()[:, :, [3, 4, 5]].sum(-1).mean().item()
    assert report.mass == pytest.approx(wanted, rel=1e-4)
    assert str(report) == f"bag bag: 3 words; unsteered mass {wanted:.2%}"


# --- what steering can begin -----------------------------------------------------------------------------------

NEVER = ["quixotic zebra jumps", "zebra", "moon;2"]
"""What the tiny model never expects to be completed."""


@pytest.mark.parametrize("words", [NEVER, NEVER[:1]])
def test_a_bag_of_which_nothing_can_be_begun_is_refused(gpt2, tokenizer, words):
    bag = BagOfWords.from_words(words, tokenizer, name="mine")
    needle = "bag mine: steering can begin none of its words; without quixotic zebra jumps.*list words in the model's"
    with pytest.raises(InputError, match=needle):
        pplm.generate(gpt2, tokenizer, "the", attributes=[bag], max_new_tokens=1)
    for _ in range(2):  # also when the completions are there already
        with pytest.raises(InputError, match=needle):
            gpt2.generate(torch.tensor([[5]]), max_new_tokens=1, custom_generate=pplm.steered_decoding([bag]))


def test_a_bag_that_mostly_cannot_be_begun_is_warned_of(gpt2, tokenizer):
    bag = BagOfWords.from_words([*NEVER, "moon", "sun"], tokenizer, name="mine")
    with pytest.warns(
        pplm.SteeringWarning, match=r"bag mine: steering can begin 2 of its 5 words; without quixotic"
    ) as found:
        pplm.generate(gpt2, tokenizer, "the", attributes=[bag], max_new_tokens=1, max_batch_size=1)
    assert len(found) == 1


def test_words_that_cannot_be_spelt_count_among_those_that_cannot_be_begun(gpt2):
    entries = (Entry("a", (1,)), Entry("b", (2,)))
    BagOfWords(entries, 272, unmatched=("c", "d")).for_model(gpt2)
    with pytest.warns(pplm.SteeringWarning, match=r"can begin 2 of its 5 words; without c, d, e, "):
        BagOfWords(entries, 272, unmatched=("c", "d", "e")).for_model(gpt2)


def test_half_of_the_words_is_enough_and_avoided_words_need_not_be_begun(gpt2, tokenizer):
    BagOfWords.from_words(["moon", "sun", "sea", *NEVER], tokenizer).for_model(gpt2)
    Avoid(BagOfWords.from_words(NEVER, tokenizer)).for_model(gpt2)


@pytest.mark.parametrize("name", LISTS)
def test_no_shipped_list_is_warned_of(embedded, name):
    bag = BagOfWords.load(name, embedded[1]).for_model(embedded[0])
    assert 2 * len(bag.report().never_begun) < len(bag.words)


def test_the_report_counts_words_whose_later_tokens_alone_are_credited(gpt2, tokenizer):
    report = BagOfWords.from_words(["moon", "zebra"], tokenizer, name="two").for_model(gpt2).report()
    assert report.never_begun == ("zebra",)
    assert str(report) == (
        "bag two: 2 words, 1 of them of several tokens; steering can begin 1 of them, and only completes the other 1, "
        "whose first token is too common to reward"
    )


# --- what is refused -------------------------------------------------------------------------------------------


def test_a_file_is_loaded_under_its_own_name(tmp_path, tokenizer):
    bag = BagOfWords.load(write(tmp_path / "mine.txt", "moon\nsea\t0.5\n"), tokenizer)
    assert (bag.name, bag.weights) == ("mine", {"moon": 1.0, "sea": 0.5})


def test_a_bag_of_nothing_is_refused(tokenizer):
    with pytest.raises(InputError, match="'bag' is empty; add words"):
        BagOfWords.from_words([], tokenizer)
    with pytest.raises(InputError, match="the tokenizer can spell none of its 2 words"):
        BagOfWords((), 10, unmatched=("zebra", "quark"))


def test_a_text_in_place_of_a_list_of_words_is_refused(tokenizer):
    with pytest.raises(InputError, match="words must be a list of words; got the text 'space'"):
        BagOfWords.from_words("space", tokenizer)


@pytest.mark.parametrize("word", ["", " ", "\t"])
def test_an_empty_word_is_refused(tokenizer, word):
    with pytest.raises(InputError, match="'sky' holds an empty word; remove it"):
        BagOfWords.from_words(["moon", word], tokenizer, name="sky")


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), "2", None])
def test_a_weight_that_is_no_number_above_0_is_refused(tokenizer, weight):
    with pytest.raises(InputError, match=f"'sky': the weight of 'moon' must be a number above 0; got {weight!r}"):
        BagOfWords.from_words({"moon": weight, "sun": 1.0}, tokenizer, name="sky")


def test_a_word_that_is_no_text_is_refused(tokenizer):
    with pytest.raises(InputError, match="'sky' holds 3, which is not a text; remove it"):
        BagOfWords.from_words(["moon", 3], tokenizer, name="sky")


@pytest.mark.parametrize("words", [["battery"], "battery", {"battery": 1.0}])
def test_words_in_place_of_spelt_entries_are_refused_with_what_to_use(tokenizer, words):
    with pytest.raises(InputError, match=r"got .*battery.*Use BagOfWords\.from_words\(words, tokenizer\)"):
        BagOfWords(words, tokenizer)


def test_a_list_that_is_not_utf_8_is_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8 .*save it as UTF-8"):
        BagOfWords.load(write(tmp_path / "latin.txt", "caf\xe9\n".encode("latin-1")), tokenizer)


def test_a_folder_is_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match="is a folder; name a text file"):
        BagOfWords.load(tmp_path, tokenizer)


def test_an_unknown_name_is_refused_with_the_shipped_ones(tokenizer):
    with pytest.raises(InputError, match="'spcae' is neither a file nor a shipped list") as caught:
        BagOfWords.load("spcae", tokenizer)
    assert all(name in str(caught.value) for name in LISTS)


@pytest.mark.parametrize("name", ["~nosuchuser/list.txt", "moon " * 100, "a/" * 300, "with\0null"])
def test_a_name_that_cannot_be_a_path_is_refused_as_any_unknown_one(tokenizer, name):
    with pytest.raises(InputError, match="is neither a file nor a shipped list"):
        BagOfWords.load(name, tokenizer)


@pytest.mark.parametrize("token", [-1, 10])
def test_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(InputError, match=rf"token id {token}, outside 0\.\.9"):
        BagOfWords.from_token_ids([3, token], 10)


def test_a_bag_without_tokens_is_refused():
    with pytest.raises(InputError, match="'nothing' is empty"):
        BagOfWords.from_token_ids([], 10, name="nothing")


def test_a_bag_for_a_larger_vocabulary_is_refused_when_it_is_used():
    with pytest.raises(InputError, match="vocabulary of 30 tokens, the model has 20 and lacks token 25"):
        BagOfWords.from_token_ids([4, 25], 30).loss(step(torch.zeros(1, 20)))
    assert BagOfWords.from_token_ids([4, 19], 30).loss(step(torch.zeros(1, 20))).isfinite()


def test_a_bag_prints_its_name_and_sizes_also_in_an_error(tokenizer):
    bag = BagOfWords.from_words([*"abcdefgh", "moon"], tokenizer, name="mine")
    assert repr(bag) == f"BagOfWords('mine', 9 words, {len(bag.entries)} spellings)"
    with pytest.raises(InputError) as error:
        pplm.steered_decoding([[bag, 1.0]])
    assert len(str(error.value)) < 200


def test_credits_are_found_once_a_token_whatever_the_iterations(gpt2, tokenizer, monkeypatch):
    bag = BagOfWords.from_words(["moon", "star", "moonlight"], tokenizer)
    seen, real = [], CreditTables.credit
    monkeypatch.setattr(CreditTables, "credit", lambda *a: (seen.append(a[1].shape), real(*a))[1])
    decode(gpt2, [[3, 4, 5], [6, 7, 8]], [bag.for_model(gpt2)], STRONG, new=4)
    assert [tuple(shape) for shape in seen] == [(2, 3), (2, 4), (2, 5), (2, 6)]


def test_a_text_that_is_changed_where_it_stands_is_credited_anew(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon sea", "star"], tokenizer).for_model(gpt2)
    ids = torch.tensor([[3, 4, 5]])
    shown = [bag.log_mass(step(torch.zeros(1, len(tokenizer)), ids)).item()]
    ids[:, -1] = tokenizer.encode(" moon")[-1]
    shown += [bag.log_mass(step(torch.zeros(1, len(tokenizer)), text)).item() for text in (ids, ids.clone())]
    assert shown[0] != shown[1] == shown[2]


def test_the_latest_texts_do_not_travel_with_a_bag(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moonlight", "star"], tokenizer).for_model(gpt2)
    before = len(pickle.dumps(bag))
    bag.log_mass(step(torch.zeros(1, len(tokenizer)), torch.full((1, 5000), 3)))
    assert len(pickle.dumps(bag)) < before + 1000
