import pytest

from attribute_models import BagOfWords, read_word_list
from attribute_models.word_list import write_word_list
from pplm import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_read_with_weights_comments_blank_lines_space_and_doubles(tmp_path):
    text = "\ufeff# of the sky\nmoon\r\n\r\n  star \t 0.5 # dim\nblack hole\t2\nmoon\nsun\t\n#moon\t9\n"
    words = read_word_list(write(tmp_path / "list.txt", text))
    assert words == {"moon": 1.0, "star": 0.5, "black hole": 2.0, "sun": 1.0}
    assert list(words) == ["moon", "star", "black hole", "sun"]


def test_a_word_listed_twice_with_one_weight_is_read_once(tmp_path):
    assert read_word_list(write(tmp_path / "list.txt", "moon\t0.5\nsun\nmoon\t.50\n")) == {"moon": 0.5, "sun": 1.0}


def test_a_word_with_two_weights_is_refused_with_its_line(tmp_path):
    with pytest.raises(InputError, match="line 3: 'moon' already has another weight; keep one"):
        read_word_list(write(tmp_path / "list.txt", "moon\t0.5\nsun\nmoon\n"))


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "-inf", "heavy", "1,5", "1\t2"])
def test_a_weight_that_is_no_positive_number_is_refused_with_its_line(tmp_path, weight):
    with pytest.raises(InputError, match=r"list\.txt, line 2: the weight .* is not a number above 0") as caught:
        read_word_list(write(tmp_path / "list.txt", f"sun\nmoon\t{weight}\n"))
    assert repr(weight) in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n"])
def test_a_list_without_a_word_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="is empty; write one word a line"):
        read_word_list(write(tmp_path / "list.txt", text))


def test_a_word_that_would_be_read_as_a_comment_is_not_saved(tmp_path, tokenizer):
    bag = BagOfWords.from_words(["protest", "#metoo"], tokenizer)
    with pytest.raises(InputError, match="cannot hold '#metoo'"):
        bag.save(tmp_path / "bag.txt")
    assert not (tmp_path / "bag.txt").exists()


def test_a_bag_is_saved_and_loaded_with_its_words_weights_and_entries(tmp_path, tokenizer):
    bag = BagOfWords.from_words({"moon": 1.0, "black hole": 0.125, "Ärger": 1 / 3}, tokenizer)
    bag.save(tmp_path / "saved.txt")
    loaded = BagOfWords.load(tmp_path / "saved.txt", tokenizer)
    assert loaded.name == "saved"
    assert loaded.weights == pytest.approx(bag.weights, rel=1e-5)
    assert [e.token_ids for e in loaded.entries] == [e.token_ids for e in bag.entries]
    assert "moon\n" in (tmp_path / "saved.txt").read_text(encoding="utf-8")


def test_a_list_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"word list .*folder.* cannot be written: No such file"):
        write_word_list(tmp_path / "folder" / "list.txt", {"moon": 1.0})
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        write_word_list(tmp_path, {"moon": 1.0})
