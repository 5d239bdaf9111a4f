"""`generate(..., on_token=...)`: every token as it comes."""

from collections import defaultdict

import pytest
import torch
from helpers import STRONG, begins_with, dial
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import pplm
from pplm import InputError
from pplm.text.aims import named_levels
from pplm.text.pieces import Pieces, completion_of
from pplm.text.prompts import Prompt

PROMPTS = ["The sea is", " moon", "Cats and a star over the sea"]


def run(gpt2, tokenizer, prompts=PROMPTS, **arguments):
    defaults = {"steering": STRONG, "max_new_tokens": 12, "seed": 4, "do_sample": True}
    return pplm.generate(gpt2, tokenizer, prompts, **{**defaults, **arguments})


def by_text(tokens):
    """Return tokens by (prompt index, sample), in the order in which they came."""
    found = defaultdict(list)
    for token in tokens:
        found[token.prompt_index, token.sample].append(token)
    return found


def check_tokens(texts, seen):
    """Compare the tokens that were shown with the texts."""
    assert set(by_text(seen)) == {(text.prompt_index, text.sample) for text in texts}
    for text in texts:
        own = by_text(seen)[text.prompt_index, text.sample]
        assert [token.token_id for token in own] == text.token_ids
        assert [token.position for token in own] == list(range(len(own)))
        assert "".join(token.text for token in own) == text.completion
        assert [token.finished for token in own] == [False] * (len(own) - 1) + [True]
        assert {token.steered for token in own} == {text.steered}


@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("steered", [True, False])
def test_tokens_joined_are_the_completion(gpt2, tokenizer, words, size, steered):
    arguments = {"attributes": [words] if steered else [], "num_samples": 3, "max_batch_size": size}
    seen = []
    texts = run(gpt2, tokenizer, on_token=seen.append, **arguments)
    assert [text.record() for text in texts] == [text.record() for text in run(gpt2, tokenizer, **arguments)]
    assert any("\ufffd" in text.completion for text in texts)  # a random model writes bytes that are no characters
    check_tokens(texts, seen)
    assert all(token.details is None for token in seen)


def test_a_token_shows_its_details_with_a_trace(gpt2, tokenizer, words):
    seen = []
    texts = run(gpt2, tokenizer, attributes=[words], num_samples=2, on_token=seen.append, trace=True)
    check_tokens(texts, seen)
    for text in texts:
        for shown, kept in zip(by_text(seen)[text.prompt_index, text.sample], text.details.tokens, strict=True):
            assert (shown.details.levels, shown.details.seconds) == (kept.levels, kept.seconds)
            assert set(shown.details.words) <= set(kept.words)


def test_a_token_shows_the_levels_so_far_with_the_dial(gpt2, tokenizer, words):
    seen = []
    texts = run(gpt2, tokenizer, attributes=[words], num_samples=2, on_token=seen.append,
                steering=dial([words], strength=0.5))  # fmt: skip
    for text in texts:
        own = by_text(seen)[text.prompt_index, text.sample]
        assert own[-1].levels == text.levels
        assert text.levels
        assert len({token.levels[words.name] for token in own}) > 1
    assert named_levels(["sky", "mood"], [0.5, float("nan")]) == {"sky": 0.5}
    seen.clear()
    run(gpt2, tokenizer, attributes=[words], on_token=seen.append)
    assert all(token.levels == {} for token in seen)


def test_a_token_names_the_attributes_that_could_not_act_on_its_own_text(gpt2, tokenizer):
    (moon,) = tokenizer.encode(" moon")

    class OfMoons:
        """Acts on texts that begin with the moon."""

        name = "of moons"

        def loss(self, step):
            return torch.where(begins_with(step, moon), -step.log_probs[:, moon], torch.inf)

    seen = []
    with pytest.warns(pplm.SteeringWarning, match="'of moons' could not act at any token of 1 of 2 texts"):
        run(gpt2, tokenizer, PROMPTS[:2], attributes=[OfMoons()], on_token=seen.append)
    idle = {number: {token.idle for token in own} for (number, _), own in by_text(seen).items()}
    assert idle == {0: {("of moons",)}, 1: {()}}


def test_numbers_of_prompts_are_those_of_the_call(gpt2, tokenizer):
    seen = []
    run(gpt2, tokenizer, PROMPTS[:2], on_token=seen.append, prompt_indices=[7, 3])
    assert {token.prompt_index for token in seen} == {7, 3}


@pytest.mark.parametrize("steered", [True, False])
def test_returning_true_ends_one_text_and_no_other(gpt2, tokenizer, words, steered):
    arguments = {"attributes": [words] if steered else [], "num_samples": 2}
    seen = []

    def stop(token):
        seen.append(token)
        return (token.prompt_index, token.sample, token.position) == (1, 0, 3)

    whole = run(gpt2, tokenizer, **arguments)
    texts = run(gpt2, tokenizer, on_token=stop, trace=True, **arguments)
    for text, full in zip(texts, whole, strict=True):
        if (text.prompt_index, text.sample) == (1, 0):
            assert text.token_ids == full.token_ids[:4]
            assert text.final_kl == full.final_kl[:4]
            assert full.completion.startswith(text.completion)
        else:
            assert text.record() == full.record()
        own = by_text(seen)[text.prompt_index, text.sample]
        assert "".join(token.text for token in own) == text.completion
        assert len(text.details.tokens) == len(own) == len(text.token_ids)


def test_an_unfinished_character_at_a_wanted_end_is_left_out(gpt2, tokenizer):
    text = run(gpt2, tokenizer, PROMPTS[0], on_token=lambda token: token.position == 3)[0]
    again = run(gpt2, tokenizer, PROMPTS[0], max_new_tokens=4)[0]
    assert text.token_ids == again.token_ids
    assert text.completion == again.completion.rstrip("\ufffd")


def test_ending_every_text_ends_the_call(gpt2, tokenizer, words):
    seen = []

    def stop(token):
        seen.append(token)
        return True

    texts = run(gpt2, tokenizer, attributes=[words], on_token=stop)
    assert [len(text.token_ids) for text in texts] == [1, 1, 1]
    assert len(seen) == 3


def test_what_it_raises_reaches_the_caller(gpt2, tokenizer, words):
    def broken(token):
        if token.position == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        run(gpt2, tokenizer, attributes=[words], on_token=broken)


def test_texts_that_are_generated_again_in_smaller_batches_begin_at_0_again(gpt2, tokenizer, words, caplog):
    seen, full = [], [True]

    def out_of_memory(token):
        seen.append(token)
        if full and token.position == 2:
            full.clear()
            raise torch.OutOfMemoryError

    arguments = {"attributes": [words], "num_samples": 2}
    texts = run(gpt2, tokenizer, on_token=out_of_memory, **arguments)
    assert "continuing with 3" in caplog.text
    assert [text.token_ids for text in texts] == [text.token_ids for text in run(gpt2, tokenizer, **arguments)]
    first = by_text(seen)[0, 0]
    assert [token.position for token in first][:4] == [0, 1, 2, 0]
    check_tokens(texts, seen[6 * 2 + 1 :])


def test_ends_of_texts_and_stop_strings_are_shown_as_they_are_kept(gpt2, tokenizer, words):
    free = run(gpt2, tokenizer, attributes=[words])
    end = free[0].token_ids[4]
    seen = []
    check_tokens(run(gpt2, tokenizer, attributes=[words], eos_token_id=end, on_token=seen.append), seen)
    assert len(by_text(seen)[0, 0]) <= 5
    seen.clear()
    texts = run(gpt2, tokenizer, attributes=[words], stop_strings=["moon", "a"], on_token=seen.append)
    check_tokens(texts, seen)


def test_chats_show_their_answers_without_what_ends_a_turn(chat):
    model, tokenizer = chat
    questions = [[{"role": "user", "content": "Who?"}], [{"role": "user", "content": "What is the moon?"}]]
    seen = []
    texts = run(model, tokenizer, questions, on_token=seen.append, num_samples=30, max_new_tokens=40)
    check_tokens(texts, seen)
    done = tokenizer.convert_tokens_to_ids("<|done|>")
    assert any(text.token_ids[-1] == done for text in texts)
    assert not any("<|done|>" in token.text for token in seen)


def test_several_candidates_are_not_shown(gpt2, tokenizer, words):
    with pytest.raises(InputError, match="on_token would show candidates that are not kept; leave out on_token or"):
        run(gpt2, tokenizer, attributes=[words], rerank=pplm.Rerank(3), on_token=print)


def test_a_wrong_function_is_refused(gpt2, tokenizer):
    with pytest.raises(InputError, match="on_token must be a function of one NewToken; got 'print'"):
        run(gpt2, tokenizer, on_token="print")


# --- pieces ----------------------------------------------------------------------------------------------------


def metaspace(vocab, **options):
    """A tokenizer like Llama 2's: it drops the space of what it decodes alone, and spells what it lacks in bytes."""
    ids = {token: number for number, token in enumerate(["<unk>", *(f"<0x{n:02X}>" for n in range(256)), *vocab])}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **options)


def word_level(vocab):
    """A tokenizer like BERT's: words with spaces between, and punctuation closer to them."""
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(vocab)}, unk_token=vocab[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=True)


def pieces_of(tokenizer, prompt, ids):
    pieces = Pieces(tokenizer, prompt)
    return [pieces.add(token, last=number == len(ids) - 1) for number, token in enumerate(ids)]


def test_spaces_that_a_tokenizer_drops_of_what_it_decodes_alone_are_kept():
    tokenizer = metaspace(["▁the", "▁cat", "▁sat"])
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("▁the", "▁cat", "▁sat")]
    assert pieces_of(tokenizer, Prompt("the", ids[:1]), ids[1:]) == [" cat", " sat"]


def test_the_bytes_of_a_character_wait_for_each_other():
    tokenizer = metaspace(["▁the", "▁cat"])
    ids = [tokenizer.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in "月🌙".encode()]
    assert pieces_of(tokenizer, Prompt("the", [257]), [*ids, 258]) == ["", "", "月", "", "", "", "🌙", " cat"]


def test_bytes_that_never_become_a_character_are_shown_when_that_is_clear():
    tokenizer = metaspace(["▁the", "▁cat"])
    broken = tokenizer.convert_tokens_to_ids("<0xFF>")
    assert pieces_of(tokenizer, Prompt("the", [257]), [258, broken, 258]) == [" cat", "", "\ufffd cat"]
    assert pieces_of(tokenizer, Prompt("the", [257]), [258, broken]) == [" cat", "\ufffd"]


def test_punctuation_that_moves_to_a_word_is_shown_where_it_ends_up():
    vocab = ["it", "do", "n't", ".", "stop", "'", "s"]
    tokenizer = word_level(vocab)
    prompt, ids = Prompt("it", [0]), [1, 2, 4, 3, 0, 5, 6, 1]
    pieces = pieces_of(tokenizer, prompt, ids)
    assert "".join(pieces) == completion_of(tokenizer, prompt, ids) == " don't stop. it's do"
    assert len([piece for piece in pieces if piece]) > 2


class Rewriting:
    """Decodes the first new token otherwise as soon as there is another one."""

    def decode(self, ids, **_):
        return "abcde"[: len(ids)] if len(ids) < 3 else "axyz"[: len(ids)]


def test_a_tokenizer_that_changes_what_it_has_decoded_is_refused():
    pieces = Pieces(Rewriting(), Prompt("a", [0]))
    assert pieces.add(1, last=False) == "b"
    with pytest.raises(InputError, match="leave out trace and on_token"):
        pieces.add(1, last=True)
