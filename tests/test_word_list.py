"""Word list files: weights, comments, and lines that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_models import BagOfWords, read_word_list
from attribute_models.word_list import write_word_list
from pplm import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_read_with_weights_comments_blank_lines_space_and_doubles(tmp_path):
    text = "\ufeff# of the sky\nmoon\r\n\r\n  star \t 0.5 # dim\nblack hole\t2\nmoon\nsun\t\n# moon\t9\n#\n"
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
    with pytest.raises(InputError, match="is empty; write one word per line"):
        read_word_list(write(tmp_path / "list.txt", text))


def test_a_comment_begins_at_a_number_sign_before_white_space(tmp_path):
    text = "#nasa\nc# # a language\n#\ttabbed\n\\# 1 hit\nmoon #\nmoon #9\na\\\\#b\n"
    words = read_word_list(write(tmp_path / "list.txt", text))
    assert list(words) == ["#nasa", "c#", "# 1 hit", "moon", "moon #9", "a\\#b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("moon 0.5\nstar\n", {"moon": 0.5, "star": 1.0}),
        ("area 51\nmoon\n", {"area 51": 1.0, "moon": 1.0}),
        ("area 51", {"area 51": 1.0}),
        ("moon 2\nblack hole 1\n", {"moon": 2.0, "black hole": 1.0}),
        ("moon;2\nstar;1\n", {"moon": 2.0, "star": 1.0}),
        ("moon;2", {"moon": 2.0}),
        ("moon: 2\nstar: .5\n", {"moon": 2.0, "star": 0.5}),
        ("moon,2\nblack hole, 0.5\n", {"moon": 2.0, "black hole": 0.5}),
        ("word,weight\nmoon,2\n", {"moon": 2.0}),
        ("Word;Score\nmoon;2\nstar;0.5\n", {"moon": 2.0, "star": 0.5}),
        ("word\tweight\nmoon\t2\nstar\t1\n", {"moon": 2.0, "star": 1.0}),
        ('"word","weight"\n"moon","2"\n"Paris, France","1"\n', {"moon": 2.0, "Paris, France": 1.0}),
        ('"say ""hi""",2\nmoon,1\n', {'say "hi"': 2.0, "moon": 1.0}),
        ('"moon"\n\'star\'\n\u201csun\u201d\n"area 51"\t2\n', {"moon": 1.0, "star": 1.0, "sun": 1.0, "area 51": 2.0}),
        ('"area 51"\n"catch 22"\n', {"area 51": 1.0, "catch 22": 1.0}),
        ('"Paris, France"', {"Paris, France": 1.0}),
        ("Paris, France\nmoon\n", {"Paris, France": 1.0, "moon": 1.0}),
        ("Paris, France 0.5\nmoon\n", {"Paris, France": 0.5, "moon": 1.0}),
        ("moon\t2\narea 51\n", {"moon": 2.0, "area 51": 1.0}),
        ('["moon", "black hole"]', {"moon": 1.0, "black hole": 1.0}),
        ('[\n  "moon",\n  ["star", 0.5]\n]\n', {"moon": 1.0, "star": 0.5}),
        ('{"moon": 2, "area 51": 0.5}', {"moon": 2.0, "area 51": 0.5}),
    ],
)
def test_lists_of_other_programs_are_read_where_they_mean_one_thing(tmp_path, text, words):
    found = read_word_list(write(tmp_path / "list.txt", text))
    assert found == words
    assert list(found) == list(words)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("moon, star", 1),
        ("# mine\n\nmoon; star; sun\n", 3),
        ("moon, star\nsun, sea\n", 1),
        ("moon,2\nstar,bright\n", 2),
        ("moon,2\nstar,\n", 2),
        ('"moon", "star"', 1),
        ("Paris, France 2", 1),
        ("0,moon,0.5\n1,star,0.25\n", 1),
        ("moon\nstar;2\n", 2),
        ("moon 1,5\nstar 0,5\n", 1),
        ("word,weight\nmoon,bright\n", 1),
        ("moon,\nstar,\nsun\n", 1),
        ("sky\nmoon;star\n", 2),
        ("- moon\n- star\n", 1),
        ("moon\n* star\n", 2),
        ("1. moon\n2. star\n", 1),
        ("moon|star\n", 1),
    ],
)
def test_a_list_in_another_form_is_refused_with_its_line_and_the_form_that_is_wanted(tmp_path, text, line):
    needle = rf"list\.txt, line {line}: .* may be several words or columns; write one word or phrase per line"
    with pytest.raises(InputError, match=needle):
        read_word_list(write(tmp_path / "list.txt", text))


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ('["moon", 3]', "entry 2: 3 is not a word"),
        ('[{"word": "moon", "weight": 2}]', r"entry 1: .* is not a word; write a JSON list of words or an object"),
        ('{"moon": "bright"}', "entry 1: the weight 'bright' is not a number above 0"),
        ('{"moon": true}', "entry 1: the weight 'True' is not a number above 0"),
        ('{"moon": null}', "entry 1: the weight 'None' is not a number above 0"),
        ('{"moon": 1, "moon": 2}', "entry 2: 'moon' already has another weight"),
        ('["moon",]', "has the brackets of JSON, but .* line 1 column"),
        ("[]", "is empty"),
        ('["moon", ""]', "entry 2: an empty word"),
        ('moon\n""\n', "line 2: an empty word"),
        ("moon -0.5\n", "line 1: the weight '-0.5' is not a number above 0"),
    ],
)
def test_what_is_no_word_or_no_weight_is_refused_with_its_place(tmp_path, text, needle):
    with pytest.raises(InputError, match=needle):
        read_word_list(write(tmp_path / "list.txt", text))


SPECIAL = st.text(st.sampled_from("#\\\"'[]{},;:=.0 51ab\u201c\u201d\tw\ufeff"), max_size=8)
FOREIGN = ("- moon", "1. moon", "a|b", "moon,")
PHRASES = st.sampled_from(
    ["word, weight", "[", "]", "area 51", "moon;2", "# a", "Paris, France", '"moon"', "{", "}", *FOREIGN]
)


@given(
    st.dictionaries(st.one_of(SPECIAL, PHRASES, st.text(max_size=5)), st.sampled_from([1.0, 0.5, 1 / 3, 1e-30, 7e20]))
)
def test_what_is_written_is_read_back(tmp_path_factory, words):
    path = tmp_path_factory.getbasetemp() / "round_trip.txt"
    fits = [
        w for w in words if w == w.strip() and w.splitlines() == [w] and not {"\t", "\0"} & set(w) and w[0] != "\ufeff"
    ]
    if not words:
        return
    if len(fits) < len(words):
        with pytest.raises(InputError, match=r"cannot hold .*; take out its tabs, line breaks, NULs and outer space"):
            write_word_list(path, words)
        words = {word: words[word] for word in fits}
    if words:
        write_word_list(path, words)
        assert read_word_list(path) == words
        assert list(read_word_list(path)) == list(words)


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
