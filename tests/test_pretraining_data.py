"""Corpus, tokenizer, blocks and borrowed embeddings: everything before the first step."""

import bz2
import gzip
import lzma

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pretraining import documents
from transformers import GPT2Config, GPT2LMHeadModel

from pplm import InputError
from pplm.models.loading import load_tokenizer
from pplm.pretraining.blocks import BlockOrder
from pplm.pretraining.corpus import encode_stream, read_corpus
from pplm.pretraining.embeddings import borrowed_embeddings
from pplm.pretraining.tokenizer import num_token_ids, train_tokenizer

# --- corpus ----------------------------------------------------------------------------------------------------


def read(*sources, fraction=0.5, **options):
    return read_corpus([str(source) for source in sources], validation_fraction=fraction, **options)


def write(folder, text, name="text.txt"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_documents_stand_between_lines_with_the_separator(tmp_path):
    text = "one\nline two\n<|endoftext|>\n  \n <|endoftext|> \r\ntwo <|endoftext|> here\r\n<|endoftext|>\nthree\n\n"
    found = read(write(tmp_path, text), write(tmp_path, "four", "b.md"), fraction=0.25)
    assert sorted(found.training + found.validation) == ["four", "one\nline two", "three", "two <|endoftext|> here"]
    assert len(found.validation) == 1


@pytest.mark.parametrize("module", [lzma, gzip, bz2])
def test_compressed_files_are_read_like_plain_ones(tmp_path, module):
    suffix = {lzma: ".xz", gzip: ".gz", bz2: ".bz2"}[module]
    text = "ein Käse\n<|endoftext|>\nzwei Bäume"
    plain, packed = write(tmp_path, text), write(tmp_path, module.compress(text.encode()), f"text.txt{suffix}")
    assert read(plain) == read(packed)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        read(packed)


def test_damage_inside_a_gz_file_is_told(tmp_path):
    data = bytearray(gzip.compress(b"".join(bytes([n % 251]) * 3 for n in range(5000))))
    data[40:60] = b"\xff" * 20
    with pytest.raises(InputError, match="cannot be read"):
        read(write(tmp_path, bytes(data), "text.gz"))


def test_a_byte_order_mark_is_no_text(tmp_path):
    found = read(write(tmp_path, "\ufeffone\n<|endoftext|>\ntwo"))
    assert found.training + found.validation == ["one", "two"]


def test_validation_files_hold_nothing_out(tmp_path):
    a, b = write(tmp_path, "one\n<|endoftext|>\ntwo"), write(tmp_path, "three", "b.txt")
    found = read(a, validation=[str(b)], fraction=0)
    assert (found.training, found.validation) == (["one", "two"], ["three"])


@given(st.integers(2, 300), st.floats(0.001, 0.5))
@settings(max_examples=40, deadline=None)
def test_what_is_held_out_is_the_share_asked_for_and_in_no_other_part(tmp_path_factory, number, fraction):
    path = write(tmp_path_factory.mktemp("corpus"), "\n<|endoftext|>\n".join(map(str, range(number))))
    found = read(path, fraction=fraction)
    assert sorted(map(int, found.training + found.validation)) == list(range(number))
    assert found.training
    assert 1 <= len(found.validation) <= max(1, number * fraction + 1)
    assert len(found.validation) >= number * fraction - 1


def test_a_single_document_gives_its_last_lines(tmp_path):
    found = read(write(tmp_path, "\n".join(f"line {n}" for n in range(10))), fraction=0.2)
    assert found.validation == ["line 8\nline 9"]
    assert found.training == ["\n".join(f"line {n}" for n in range(8))]


@pytest.mark.parametrize(
    ("text", "name", "options", "message"),
    [
        (" \n<|endoftext|>\n", "empty.txt", {}, "empty.txt holds no text"),
        (b"caf\xe9", "latin.txt", {}, "latin.txt cannot be read as UTF-8 text"),
        ("a line", "line.txt", {}, "a single line"),
        ("one\n<|endoftext|>\ntwo", "two.txt", {"fraction": 0}, "validation_fraction is 0"),
        ('{"text": "one"}', "rows.jsonl", {}, "rows.jsonl is a table"),
        ("text\none", "rows.CSV", {}, "rows.CSV is a table"),
    ],
)
def test_texts_that_cannot_be_used_are_refused(tmp_path, text, name, options, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path, text, name), **options)


@pytest.mark.parametrize("name", ["no.txt", "notes.md", "./no", "/no/such/file", "a/b/c", "data/no.txt.xz"])
def test_a_file_that_does_not_exist_is_told_without_asking_the_hub(name):
    with pytest.raises(InputError, match=f"text file {name} does not exist"):
        read(name)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder; name its text files"):
        read(tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """Answer `datasets.load_dataset` without a network, and remember what was asked."""
    import datasets

    asked = []
    table = datasets.Dataset.from_dict({"text": ["one", None, " ", "two"], "label": [0, 1, 2, 3]})

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        if split != "train":
            raise ValueError(f"Unknown split {split!r}")
        return table

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_data_set_gives_the_texts_of_its_column(hub):
    found = read("somebody/texts-v1.0", config="de")
    assert found.training + found.validation == ["one", "two"]
    assert hub == [("somebody/texts-v1.0", "de", "train")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "body"}, "no column 'body'; its columns are text, label"),
        ({"text_column": "label"}, "column 'label' of data set some/texts holds 0, which is not a text"),
        ({"split": "tset"}, "nor a data set that can be read: Unknown split 'tset'"),
    ],
)
def test_a_data_set_without_such_texts_is_refused(hub, options, message):
    with pytest.raises(InputError, match=message):
        read("some/texts", **options)


# --- tokenizer -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    return train_tokenizer(documents(), vocab_size=300, num_positions=32)


@pytest.fixture(scope="module")
def reloaded(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    trained.save_pretrained(folder)
    return load_tokenizer(folder)


@given(st.text())
def test_any_text_comes_back_as_it_was(trained, reloaded, text):
    ids = trained(text, add_special_tokens=False).input_ids
    assert trained.decode(ids) == text
    assert reloaded(text, add_special_tokens=False).input_ids == ids
    assert reloaded.decode(ids) == text


@pytest.mark.parametrize(
    "text", ["Grüß dich , naïve Zoë !", "日本語のテキスト", "😀👩‍👩‍👧", " \t\r\n x ", "don 't . ok ?"]
)
def test_other_languages_and_odd_spaces_come_back_too(trained, text):
    assert trained.decode(trained(text).input_ids) == text


def test_the_vocabulary_has_the_wanted_size_and_begins_with_end_of_text(trained, reloaded):
    for tokenizer in (trained, reloaded):
        assert len(tokenizer) == num_token_ids(tokenizer) == 300
        assert tokenizer.convert_ids_to_tokens(0) == "<|endoftext|>"
        assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 0
        assert tokenizer.model_max_length == 32
    assert len(trained(" moon moon").input_ids) < len(trained(" xqzj xqzj").input_ids)


def test_a_corpus_too_small_for_its_vocabulary_is_refused():
    with pytest.raises(InputError, match=r"vocab_size is 5000, but this corpus yields \d+ tokens; lower it or add"):
        train_tokenizer(["a few words"], vocab_size=5000, num_positions=32)
    with pytest.raises(InputError, match="vocab_size is 100, but this corpus yields 257 tokens; raise it"):
        train_tokenizer(["a few words"], vocab_size=100, num_positions=32)


def test_every_document_of_a_stream_begins_with_end_of_text(trained):
    texts = documents(600)
    stream = encode_stream(trained, texts)
    assert (stream == 0).sum() == 600
    parts = np.split(stream, np.flatnonzero(stream == 0))[1:]
    assert [trained.decode(part[1:]) for part in parts] == texts


# --- blocks ----------------------------------------------------------------------------------------------------


def order(length, positions=8, seed=0):
    return BlockOrder(np.arange(length, dtype=np.uint16), num_positions=positions, seed=seed)


@given(st.integers(17, 400), st.sampled_from([1, 2, 4, 8]), st.integers(0, 3))
def test_every_token_is_read_once_an_epoch_but_for_the_cut_ends(length, block_length, epoch):
    reading = order(length)
    per_epoch = reading.spans_per_epoch
    blocks = reading.blocks(reading.spans(epoch * per_epoch, per_epoch), block_length=block_length, step=epoch)
    read_ = blocks.input_ids.flatten().tolist()
    assert sorted(read_) == list(range(min(read_), min(read_) + len(read_)))
    assert length - len(read_) <= 2 * 8
    assert blocks.input_ids.shape[1] == block_length
    assert torch.equal(blocks.targets, blocks.input_ids + 1)


@given(st.integers(17, 200), st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 5))
def test_what_a_step_reads_depends_on_its_number_alone(length, counts, seed):
    straight, total = order(length, seed=seed), sum(counts)
    whole = straight.spans(0, total)
    first = 0
    for count in counts:
        resumed = order(length, seed=seed)
        assert np.array_equal(resumed.spans(first, count), whole[first : first + count])
        first += count
    one, other = (order(length, seed=seed).blocks(whole, block_length=4, step=3) for _ in range(2))
    assert torch.equal(one.position_ids, other.position_ids)


def test_every_epoch_has_an_order_of_its_own():
    reading = order(400)
    epochs = [tuple(reading.spans(number * reading.spans_per_epoch, reading.spans_per_epoch)) for number in range(3)]
    assert len({tuple(np.argsort(starts)) for starts in epochs}) == 3
    assert len({min(starts) for starts in epochs}) == 3  # cut elsewhere, too
    assert tuple(order(400, seed=1).spans(0, reading.spans_per_epoch)) != epochs[0]


@given(st.integers(0, 50), st.sampled_from([1, 2, 4, 8]))
def test_positions_run_within_the_context_from_its_start_on_every_other_step(step, block_length):
    positions = order(100).blocks(np.arange(0, 80, 8), block_length=block_length, step=step).position_ids
    assert torch.equal(positions - positions[:, :1], torch.arange(block_length).expand(len(positions), -1))
    assert positions.min() >= 0
    assert positions.max() <= 7
    if step % 2 == 0 or block_length == 8:
        assert (positions[:, 0] == 0).all()


def test_odd_steps_reach_every_position():
    positions = order(1000).blocks(np.arange(0, 800, 8), block_length=2, step=1).position_ids
    assert set(positions.flatten().tolist()) == set(range(8))


def test_the_largest_id_of_a_small_vocabulary_survives():
    tokens = np.full(40, 65535, dtype=np.uint16)
    reading = BlockOrder(tokens, num_positions=8, seed=0)
    assert reading.blocks(reading.spans(0, 1), block_length=8, step=0).input_ids.unique().tolist() == [65535]


def test_a_corpus_shorter_than_two_contexts_is_refused():
    with pytest.raises(InputError, match="the corpus has 16 tokens; it takes at least 17"):
        order(16)
    assert order(17).spans(0, 5).max() + 8 < 17


# --- embeddings ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def donor(tokenizer):
    """A model whose moon lies near its star, and far from its sea."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=len(tokenizer), n_positions=8, n_embd=12, n_layer=1, n_head=2, initializer_range=1.0)
        )
        weight = model.get_input_embeddings().weight
        with torch.no_grad():
            moon, star, sea = (tokenizer.convert_tokens_to_ids(f"Ġ{word}") for word in ("moon", "star", "sea"))
            weight[star] = weight[moon] + 0.1
            weight[sea] = -weight[moon]
    return model


def borrow(trained, donor, tokenizer, width, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return borrowed_embeddings(trained, donor, tokenizer, width=width, std=0.02)


def distances(embeddings):
    return torch.cdist(embeddings.double(), embeddings.double(), compute_mode="donot_use_mm_for_euclid_dist")


@pytest.mark.parametrize("width", [4, 8, 12])
def test_words_that_were_near_each_other_stay_so(trained, donor, tokenizer, width):
    rows = borrow(trained, donor, tokenizer, width)
    moon, star, sea = (rows[trained.convert_tokens_to_ids(f"Ġ{word}")] for word in ("moon", "star", "sea"))
    assert rows.shape == (300, width)
    assert (moon - star).norm() < 0.2 * (moon - sea).norm()


def test_with_room_for_all_of_them_distances_are_kept_up_to_one_factor(trained, donor, tokenizer):
    words = [token for token in range(1, 300) if "\ufffd" not in trained.decode([token])]
    source = donor.get_input_embeddings().weight.detach()
    texts = [trained.decode([token]) for token in words]
    there = torch.stack([source[tokenizer(text).input_ids].mean(0) for text in texts])
    for width in (12, 20):
        here = borrow(trained, donor, tokenizer, width)[words, :12]
        ratio = distances(here) / distances(there)
        far = distances(there) > 1e-3  # not the same letters in another order
        assert far.float().mean() > 0.9
        torch.testing.assert_close(ratio[far], ratio[far].median().expand(int(far.sum())), rtol=1e-3, atol=0)


def test_tokens_that_are_no_text_start_at_random_and_apart(trained, donor, tokenizer):
    parts = [token for token in range(300) if "\ufffd" in trained.decode([token])]
    assert len(parts) > 100
    one, other = (borrow(trained, donor, tokenizer, 8, seed=seed) for seed in (0, 1))
    apart = distances(one[parts])[~torch.eye(len(parts), dtype=torch.bool)]
    assert apart.min() > 0
    assert one[parts].std().item() == pytest.approx(0.02, rel=0.2)
    assert not torch.equal(one[parts], other[parts])
    rest = [token for token in range(300) if token not in parts]
    assert torch.equal(one[rest], other[rest])
    assert one[rest].std().item() == pytest.approx(0.02, rel=0.2)
