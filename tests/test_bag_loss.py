"""A bag's loss: minus the log of the probability that its credited tokens have together."""

from dataclasses import replace

import pytest
import torch
from bag_credit import credit, random_logits, step

import pplm
from attribute_models import Avoid, BagOfWords


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
