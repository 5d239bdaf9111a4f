"""What plain text stands for: names, paths, weights, words themselves; and the little that strangers may name."""

from pathlib import Path

import pytest

import attribute_models
from attribute_models.naming import AttributeChoice, KnownNames, bind_named, name_attributes
from pplm.cli import main
from pplm.errors import InputError
from pplm.models.resources import data_path


@pytest.fixture
def named(gpt2, tokenizer):
    """Name attributes of the tiny model."""

    def call(known=None, **choice):
        return name_attributes(AttributeChoice(**choice), gpt2, tokenizer, known=known)

    return call


@pytest.fixture
def known(tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nsun\n")
    return KnownNames.shipped().with_bag("my sky", tmp_path / "sky.txt")


def test_words_are_a_bag_as_they_are_written(named, gpt2):
    towards, away = bind_named(named(words=("moon", "sun"), avoid_words=("sea",)), gpt2)
    assert (towards.name, towards.model.words) == ("words", ("moon", "sun"))
    assert (away.name, away.model.attribute.words) == ("avoid words", ("sea",))


def test_the_command_takes_words(monkeypatch, gpt2, tokenizer, capsys):
    monkeypatch.setattr("pplm.models.loading.load_model", lambda *_, **__: (gpt2, tokenizer))
    main(["generate", "the", "--words", "moon, sun", "--words", "star", "--avoid-words", "sea", "--max-new-tokens", "2",
          "--num-samples", "1", "--seed", "0", "--no-unsteered"])  # fmt: skip
    with pytest.raises(SystemExit):
        main(["generate", "the", "--words", "moon,,sun"])
    assert "bag of words 'words' holds an empty word" in capsys.readouterr().err


def test_strangers_name_what_ships_and_what_the_operator_registered(named, known):
    bags = named(known, bags=("space:0.5", "my sky"), avoid_bags=("legal",))
    assert [(model.name, weight) for model, weight in bags] == [("space", 0.5), ("my sky", 1.0), ("avoid legal", 1.0)]
    ((head, weight),) = named(known, discriminators=("sentiment:positive:2",))
    assert (head.name, head.label, weight) == ("sentiment", "positive", 2.0)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "/etc/passwd:0.5",
        "~/.bashrc",
        "openai-community/gpt2",
        "my sky.txt",
        "sky.txt",
        "space.txt",
        "./space",
        "space/",
        "",
        "\0",
        "space\n",
    ],
)
def test_strangers_name_no_path(named, known, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    refuse_files(monkeypatch)
    for field, text in (("bags", name), ("avoid_bags", name), ("discriminators", f"{name}:positive")):
        with pytest.raises(InputError, match=r"is not available here; choose one of .*(my sky|sentiment)") as raised:
            named(known, **{field: (text,)})
        assert "root:" not in str(raised.value)


def refuse_files(monkeypatch):
    """Let nothing be looked up where what a stranger wrote could lead."""

    def refuse(path, *_, **__):
        raise AssertionError(f"looked for {path}")

    monkeypatch.setattr(attribute_models.naming, "local_path", refuse)
    monkeypatch.setattr("attribute_models.word_list.local_path", refuse)
    monkeypatch.setattr(Path, "open", refuse)


@pytest.mark.parametrize("text", ["sentiment:positive", "space"])
def test_a_file_does_not_take_the_place_of_a_shipped_name_for_strangers(named, known, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    for name in ("space", "space:0.5", "sentiment", "sentiment:positive"):
        Path(name).write_text("sea")
    if ":" in text:
        assert named(known, discriminators=(text,))[0][0].label == "positive"
    else:
        assert "galaxy" in named(known, bags=(text,))[0][0].words


@pytest.mark.parametrize(
    ("choice", "needle"),
    [
        ({"bags": ("space:nan",)}, "weight in 'space:nan' must be a number"),
        ({"bags": ("space:-1",)}, "must be a number of at least 0"),
        ({"discriminators": ("sentiment",)}, "^discriminator 'sentiment' names no label .*positive"),
        ({"discriminators": ("sentiment:great",)}, "names no label of a head; write NAME:LABEL"),
        ({"bags": ("space",), "bag_weights": "/etc/passwd"}, "leave out files of weights"),
        ({"labels": "a,b"}, "leave out files of weights, and labels"),
        ({"bags": ("x" * 10_000,)}, r"bag of words 'x+' \.\.\. 'x+' is not available"),
    ],
)
def test_what_strangers_write_is_refused_in_a_sentence(named, known, choice, needle):
    with pytest.raises(InputError, match=needle) as raised:
        named(known, **choice)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("name", "needle"),
    [("space", "has a name that is taken"), ("a:b", "text without a colon"), (" ", "without a colon"),
     ("new", "nowhere.txt does not exist")],
)  # fmt: skip
def test_names_that_cannot_be_registered_are_refused(name, needle):
    with pytest.raises(InputError, match=needle):
        KnownNames.shipped().with_bag(name, Path("nowhere.txt"))


def test_a_registered_head_goes_by_its_name(named):
    known = KnownNames.shipped().with_head("mood", data_path("discriminators", "sentiment", "gpt2-mini"))
    assert named(known, discriminators=("mood:positive",))[0][0].name == "mood"
    with pytest.raises(InputError, match="taken"):
        known.with_head("mood", data_path("discriminators", "sentiment"))
