"""What a run may begin with: folders, texts, tokenizers and models to continue; and what is refused."""

import pytest
import torch
from tiny_pretraining import SHAPE, CrashError, curve, settings, stop_after, train, write_corpus
from tiny_training import tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

import pplm
from pplm import InputError
from pplm.pretraining import Architecture
from pplm.pretraining.request import BaseModelRequest

# --- refusals --------------------------------------------------------------------------------------------------


def test_folders_that_are_not_new_or_hold_no_run_are_refused(corpus, finished, tmp_path):
    with pytest.raises(InputError, match="holds a run already; pass --resume"):
        train(corpus, finished[0])
    with pytest.raises(InputError, match="holds no run to resume; leave out --resume"):
        train(corpus, tmp_path, resume=True)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other things \(mine.txt\); name a new folder"):
        train(corpus, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        train(corpus, tmp_path / "mine.txt")
    with pytest.raises(InputError, match=r"cannot be written: .* is not a folder"):
        train(corpus, tmp_path / "mine.txt" / "model")
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"changes": {"tokens_per_step": 31}}, "tokens_per_step must be at least the context of 32"),
        ({"changes": {"block_length": 12}}, "block_length must divide the context of 32"),
        ({"changes": {"validation_fraction": 0.0}}, "validation_fraction is 0"),
        ({"tokenizer": "no/such/place/at/all"}, "does not exist"),
        ({"embeddings_from": "./no"}, "does not exist"),
        ({"validation": ("no.txt",)}, "no.txt does not exist"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(corpus, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        train(corpus, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_corpus_too_short_for_the_context_or_the_vocabulary_leaves_nothing(tmp_path):
    source = write_corpus(tmp_path, ["The moon.", "The star."])
    for vocab_size, message in ((300, "lower it or add text"), (258, "it takes at least 65")):
        shape = Architecture(num_layers=1, width=16, num_heads=2, num_positions=32, vocab_size=vocab_size)
        with pytest.raises(InputError, match=message):
            train(source, tmp_path / "run", shape=shape)
        assert not (tmp_path / "run").exists()


# --- continuing a model ----------------------------------------------------------------------------------------


def test_init_goes_on_where_a_model_stopped(corpus, finished, tmp_path):
    report = train(corpus, tmp_path / "more", init=str(finished[0]), changes={"warmup_steps": 0, "seed": 1})
    first, last = finished[1].steps[0].loss, finished[1].steps[-1].loss
    assert abs(report.steps[0].loss - last) < 0.2 * (first - last)
    assert report.validation.nats_per_token < finished[1].validation.nats_per_token
    assert "continued from tiny" in (tmp_path / "more" / "MODEL_CARD.md").read_text(encoding="utf-8")
    one, other = ((folder / "tokenizer.json").read_text() for folder in (finished[0], tmp_path / "more"))
    assert one == other


def other_gpt2(folder, **changes):
    """Write a GPT-2 with dropout, in bfloat16, whose tokenizer of 26 words knows none of the stories'."""
    usual = {"vocab_size": 26, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**{**usual, **changes}, bos_token_id=0, eos_token_id=0)).bfloat16()
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_a_gpt2_with_dropout_untied_and_padded_embeddings_is_trained_further_and_resumed(corpus, tmp_path):
    start = other_gpt2(tmp_path / "other", tie_word_embeddings=False, vocab_size=40)
    whole = train(corpus, tmp_path / "whole", init=start)
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", init=start, on_step=stop_after(5))
    assert curve(train(corpus, tmp_path / "run", init=start, resume=True)) == curve(whole)
    model, _ = pplm.load_model(tmp_path / "run", device="cpu")
    assert not torch.equal(model.lm_head.weight, model.transformer.wte.weight)
    assert "untied embeddings" in (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_models_that_cannot_be_continued_are_refused(corpus, llama, finished, tmp_path):
    llama.save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")
    with pytest.raises(InputError, match="is a LlamaForCausalLM; only a GPT-2"):
        train(corpus, tmp_path / "run", init=str(tmp_path / "llama"))
    with pytest.raises(InputError, match="has 20 embeddings and a tokenizer of 26 tokens"):
        train(corpus, tmp_path / "run", init=other_gpt2(tmp_path / "small", vocab_size=20))
    with pytest.raises(InputError, match="has its own architecture"):
        pplm.pretraining.train_base_model(
            BaseModelRequest(sources=(corpus,), init=str(finished[0])),
            tmp_path / "run",
            settings=settings(),
            architecture=SHAPE,
        )
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_a_beginning_of_text_is_refused(corpus, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    tokenizer.save_pretrained(tmp_path / "words")
    with pytest.raises(InputError, match="has no beginning-of-text token"):
        train(corpus, tmp_path / "run", tokenizer=str(tmp_path / "words"))


def test_another_model_s_tokenizer_is_taken_with_its_size(corpus, tmp_path):
    train(corpus, tmp_path / "run", tokenizer="gpt2-mini", changes={"steps": 1})
    model, tokenizer = pplm.load_model(tmp_path / "run", device="cpu")
    assert model.config.vocab_size == len(tokenizer) == 12288
    assert tokenizer.model_max_length == 32
