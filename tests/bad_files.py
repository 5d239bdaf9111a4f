"""Bad input as a table, continued: word lists, heads, models and places to write to."""

import json
import pickle
import shutil
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path

import torch
from bad_input import Row, folder, warns, works
from safetensors.torch import load_file, save_file

from attribute_models import Discriminator


class Bomb:
    """Writes a file where it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def bomb(path: Path) -> None:
    """Write a pickle that runs code where it is unpickled."""
    path.write_bytes(pickle.dumps({"mlp.weight": Bomb()}))


def torch_bomb(path: Path) -> None:
    """Write a file of torch's that runs code where it is unpickled."""
    torch.save({"mlp.weight": Bomb(), "mlp.bias": torch.zeros(2)}, path)


DEEP = b"[" * 100_000 + b"]" * 100_000
"""JSON deeper than any reader goes."""
LIST = ("--bag", "list.txt")
SKY = ("--bag", "sky.txt")


def _list(name: str, content: bytes | str, says: str, words: tuple[str, ...] = LIST, **rest) -> Row:
    content = content.encode() if isinstance(content, str) else content
    return Row(f"list: {name}", words, says, files={"list.txt": content}, **rest)


def _same_list(name: str, content: bytes | str, **rest) -> Row:
    content = content.encode() if isinstance(content, str) else content
    return works(f"list: {name}", LIST, SKY, files={"list.txt": content}, **rest)


WORD = "line [12]: .*word<TAB>weight"
BAGS = [
    _same_list("line ends of Windows", b"moon\r\nstar\r\n"),
    _same_list("line ends of an old Mac", b"moon\rstar\r"),
    _same_list("a byte order mark", b"\xef\xbb\xbfmoon\nstar\n"),
    _same_list("no line end at the end", "moon\nstar"),
    _same_list("duplicates", "moon\nstar\nmoon\nstar\n"),
    _same_list("blank lines, space and comments", "# sky\n\n  moon \n\nstar # bright\n"),
    _same_list("quotes", '"moon"\n"star"\n'),
    _same_list("weights of 1", "moon\t1\nstar\t1.0\n"),
    _same_list("JSON", '["moon", "star"]'),
    works("list: a folder on the way", ("--bag", "./taste/../sky.txt"), SKY),
    _list("comments alone", "# nothing\n# at all\n", "is empty; write one word per line"),
    *(_list(f"weight {weight}", f"moon\t{weight}\nstar\n", WORD) for weight in ("nan", "inf", "-1", "0", "1e400", "much")),
    _list("two weights", "moon\t1\nmoon\t2\n", "line 2: 'moon' already has another weight; keep one"),
    _list("commas between", "moon, star", "line 1: .* may be several words or columns; write one word"),
    _list("bullets", "- moon\n- star\n", "line 1: .* may be several words or columns; write one word"),
    _list("JSON, cut off", '["moon", "sta]', "brackets of JSON, but .*; repair it"),
    _list("JSON of numbers", "[1, 2]", "entry 1: 1 is not a word; write a JSON list"),
    _list("JSON without a weight", '{"moon": null}', "entry 1: the weight 'None' is not a number above 0"),
    _list("JSON too deep", DEEP, "brackets of JSON, but .*; repair it"),
    _list("a NUL in a word", b"mo\0on\nstar\n", "holds NUL characters, as UTF-16 text does; save it as UTF-8"),
    _list("UTF-16 without its mark", "moon\nstar\n".encode("utf-16-le"), "holds NUL characters.*; save it as UTF-8"),
    _list("a phrase of 500 words", b"moon\n" + b" ".join([b"sea"] * 500), "'sea sea .*' takes .* positions, the model has 64; shorten it"),
    _list("words that the model cannot begin", "🌙\nقمر\n", "can begin none of its words; without .*; list words in the"),
    works("list: special tokens in quotes", LIST, files={"list.txt": b'"<|end|>"\n'}),
    _list("a line of 10 MB", b"moon" * 2_500_000, "may be several|longer than|shorten|begin none|line 1", slow=True),
    warns("list: emoji and Arabic beside a word", LIST, "3 words, 2 of them of several", files={"list.txt": "moon\n🌙\nقمر\n".encode()}),
    warns("list: words of several tokens", LIST, "2 words, 1 of them of several", files={"list.txt": b"moon\nzxqwv\n"}),
    warns("list: phrases of 50 words", (*LIST, "--model", "gpt2-mini"), "2 words, 1 of them of several",
          files={"list.txt": b"moon\n" + b" ".join([b"sea"] * 50) + b"\n"}),
    warns("list: 100,000 words", LIST, "100000 words", slow=True,
          files={"list.txt": b"sun\n" + "\n".join(
              f"moon {' '.join(rest)}" for rest in islice(product(("star", "sea", "cat"), repeat=11), 99_999)).encode()}),
    Row("seeds: an empty one", ("--bag-from", "moon,,star"), "seeds must be words"),
    Row("seeds: a bag smaller than they are", ("--bag-from", "moon,star", "--bag-size", "1"), r"number of seeds \(2\); got 1"),
]  # fmt: skip


def head(**changes) -> Callable[[Path], None]:
    """Return what makes a head's folder, with other tensors, or with a card's fields in `card`."""

    def make(path: Path) -> None:
        labels = changes.get("labels", ["bad", "good"])
        Discriminator.from_weights(torch.ones(2, changes.get("width", 32)), torch.zeros(2), ["bad", "good"]).save(path)
        if tensors := {name: changes[name] for name in ("weight", "bias") if name in changes}:
            save_file({**load_file(path / "head.safetensors"), **tensors}, path / "head.safetensors")
        card = (
            json.loads((path / "card.json").read_text(encoding="utf-8")) | {"labels": labels} | changes.get("card", {})
        )
        (path / "card.json").write_text(json.dumps(card), encoding="utf-8")
        for name, content in changes.get("files", {}).items():
            (path / name).write_bytes(content) if isinstance(content, bytes) else content(path / name)
        for name in changes.get("without", ()):
            (path / name).unlink()

    return make


def _head(name: str, says: str, **changes) -> Row:
    return Row(f"head: {name}", ("--discriminator", "mood:good"), says, files={"mood": head(**changes)})


def _pt(
    name: str, says: str, make: Callable[[Path], object], labels: tuple[str, ...] = ("--labels", "bad,good")
) -> Row:
    return Row(f"head: {name}", ("--discriminator", "mood.pt:good", *labels), says, files={"mood.pt": make})


DAMAGED = "mood is damaged .*; train or copy it again"
HEADS = [
    Row("head: not there", ("--discriminator", "nothing:good"), r"'nothing' is neither a folder nor a shipped one \("),
    Row("head: without a label", ("--discriminator", "taste"), r"names no label of a head; write PATH:LABEL\[:WEIGHT\] \(labels: bad"),
    Row("head: another label", ("--discriminator", "taste:great"), "names no label .*labels: bad, good"),
    Row("head: an endless weight", ("--discriminator", "taste:good:inf"), "the weight in .* must be a number"),
    Row("head: an empty folder", ("--discriminator", "mood:good"), r"it holds no head \(card.json", files={"mood": folder}),
    works("head: a slash behind the folder", ("--discriminator", "taste/:good"), ("--discriminator", "taste:good")),
    works("head: a weight of 1", ("--discriminator", "taste:good:1"), ("--discriminator", "taste:good")),
    works("head: in half precision", ("--discriminator", "mood:good"), ("--discriminator", "other:good"),
          files={"mood": head(weight=torch.ones(2, 32).half()), "other": head()}),
    _head("another width", "width 48.*32|32.*width 48", width=48),
    _head("corrupted weights", DAMAGED, files={"head.safetensors": b"broken"}),
    _head("a header of 2^63 bytes", DAMAGED, files={"head.safetensors": b"\xff" * 7 + b"\x7f" + b"{}"}),
    _head("empty weights", DAMAGED, files={"head.safetensors": b""}),
    _head("a pickle in place of weights", DAMAGED, files={"head.safetensors": bomb}),
    _head("a corrupted card", DAMAGED, files={"card.json": b'{"labels": ["bad"'}),
    _head("a card in UTF-16", DAMAGED, files={"card.json": '{"labels": ["bad", "good"]}'.encode("utf-16")}),
    _head("a card too deep", DAMAGED, files={"card.json": DEEP}),
    _head("a card that is a list", "mood lacks .*; train or copy it again", files={"card.json": b"[1, 2]"}),
    _head("no card", "it holds no head|cannot be read", without=["card.json"]),
    _head("no weights", "it holds no head|cannot be read", without=["head.safetensors"]),
    _head("a third label", "3 labels need weight", labels=["bad", "good", "ugly"]),
    _head("the same label twice", "labels must be at least two different names; got", labels=["good", "good"]),
    _head("labels that are numbers", "labels in card.json must be a list of names; got", labels=[1, 2]),
    _head("labels that are a text", "labels in card.json must be a list of names; got", labels="good"),
    _head("a model that is a text", "base_model", card={"base_model": "gpt2"}),
    _head("a model that is a list", "base_model", card={"base_model": {"name": "x", "weights": ["y"]}}),
    _head("NaN", "is not finite; train the head again", weight=torch.full((2, 32), torch.nan)),
    _head("infinity", "is not finite; train the head again", bias=torch.tensor([torch.inf, 0.0])),
    _head("a vector for a matrix", "labels need weight", weight=torch.ones(32)),
    _head("complex numbers", "holds complex numbers; train or copy it again", weight=torch.ones(2, 32, dtype=torch.complex64)),
    _head("damaged class means", r"class_means.safetensors is damaged", files={"class_means.safetensors": b"x"}),
    _pt("a pickle bomb", "mood.pt is damaged or not a state dict .*; download it again", bomb),
    _pt("a pickle bomb of torch's", "mood.pt is damaged or not a state dict .*; download it again", torch_bomb),
    _pt("an empty .pt", "mood.pt is damaged or not a state dict .*; download it again", lambda path: path.write_bytes(b"")),
    _pt("a list in a .pt", "mood.pt holds no state dict; it is not a published head", lambda path: torch.save([1], path)),
    _pt("a .pt of numbers", "mood.pt has no mlp.weight and mlp.bias; it is not", lambda path: torch.save({"mlp.weight": 1, "mlp.bias": 2}, path)),
    _pt("a .pt with keys of numbers", "mood.pt", lambda path: torch.save({1: torch.ones(2), 2: torch.ones(2)}, path)),
    _pt("a .pt that is a folder", "mood.pt", folder),
    _pt("a .pt without labels", "(labels|--labels)", lambda path: torch.save(
        {"mlp.weight": torch.ones(2, 32), "mlp.bias": torch.zeros(2)}, path), labels=()),
]  # fmt: skip


def _model(name: str, says: str, change: Callable[[Path], object], *words: str, wanted="refused", **rest) -> Row:
    def make(path: Path) -> None:
        shutil.copytree("model", path)
        change(path)

    return Row(f"model: {name}", ("--model", "changed", *words), says, wanted, files={"changed": make}, **rest)


def without(*names: str) -> Callable[[Path], None]:
    """Return what deletes files of a folder."""

    def change(path: Path) -> None:
        for name in names:
            (path / name).unlink()

    return change


def filled(name: str, content: bytes) -> Callable[[Path], object]:
    """Return what writes a file of a folder."""
    return lambda path: (path / name).write_bytes(content)


def json_with(name: str, **fields) -> Callable[[Path], object]:
    """Return what changes fields of a JSON file of a folder."""

    def change(path: Path) -> None:
        table = json.loads((path / name).read_text(encoding="utf-8")) | fields
        (path / name).write_text(json.dumps(table), encoding="utf-8")

    return change


def broken_weights(value: float) -> Callable[[Path], object]:
    """Return what puts a value into the weights of a folder."""

    def change(path: Path) -> None:
        tensors = load_file(path / "model.safetensors")
        tensors["transformer.ln_f.weight"].fill_(value)
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    return change


def own_code(path: Path) -> None:
    """Let a model's configuration name code of its own, which writes a file."""
    json_with(
        "config.json", auto_map={"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}, model_type="x"
    )(path)
    (path / "code.py").write_text("from pathlib import Path\nPath('exploded').touch()\n", encoding="utf-8")


def pickled_weights(path: Path) -> None:
    """Replace a model's weights by a pickle that runs code."""
    (path / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Bomb()}, path / "pytorch_model.bin")


def more_tokens(path: Path) -> None:
    """Give a tokenizer a token that the model has no embedding for, and that a prompt holds."""
    table = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    table["added_tokens"].append({**table["added_tokens"][0], "id": 272, "content": "lake", "special": False})
    (path / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")


def cut(path: Path) -> None:
    """Cut a model's weights in the middle, as an interrupted download does."""
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])


LOAD = "cannot load model 'changed': .*; check the name, or pass another folder"
ADAPTER = "cannot load adapter 'changed': .*; check the name"
ADAPTER = "cannot load adapter 'changed': .*; check the name"
MODELS = [
    Row("model: a folder that is not there", ("--model", "./nothing"), "model folder ./nothing does not exist"),
    Row("model: a GGUF file that is not there", ("--model", "nothing.gguf"), "model file nothing.gguf does not exist"),
    Row("model: a file", ("--model", "sky.txt"), "model sky.txt is a file; pass a folder in Hugging Face format"),
    Row("model: an empty folder", ("--model", "./tuned"), "cannot load model './tuned': .*; check the name"),
    Row("model: a damaged GGUF file", ("--model", "m.gguf"), "m.gguf.*check the name", files={"m.gguf": b"GGUF" + bytes(40)}),
    works("model: a slash behind the folder", ("--model", "model/"), ("--model", "model")),
    _model("no pad token", "", json_with("tokenizer_config.json", pad_token=None), wanted="works"),
    _model("no beginning and no end", "", lambda path: [
        json_with(name, bos_token=None, eos_token=None, bos_token_id=None, eos_token_id=None)(path)
        for name in ("tokenizer_config.json", "config.json", "generation_config.json")], wanted="works"),
    _model("no configuration", LOAD, without("config.json")),
    _model("no weights", LOAD, without("model.safetensors")),
    _model("no tokenizer", "model changed has no tokenizer; copy its tokenizer.json", without("tokenizer.json", "tokenizer_config.json")),
    _model("half of its weights", LOAD, cut),
    _model("no number in its weights", "the model returned NaN or infinity", broken_weights(torch.nan)),
    _model("infinite weights", "the model returned NaN or infinity", broken_weights(torch.inf)),
    _model("a configuration too deep", LOAD, filled("config.json", DEEP)),
    _model("a configuration that is a list", LOAD, filled("config.json", b"[1]")),
    *(_model(f"{number} layers", "model changed has no layers; its config.json is damaged", json_with("config.json", n_layer=number))
      for number in (0, -1)),
    _model("another width", LOAD, json_with("config.json", n_embd=48), late=True),
    _model("a width that is no number", LOAD, json_with("config.json", n_embd="wide")),
    _model("code of its own", LOAD, own_code),
    _model("weights that are a pickle", "a pickle that holds more than numbers, .*; get them as .safetensors", pickled_weights),
    _model("damaged settings", "steering.json.*; repair or remove it", filled("steering.json", b'{"paper": 1}')),
    _model("settings too deep", "steering.json.*; repair or remove it", filled("steering.json", DEEP)),
    _model("settings in UTF-16", "steering.json.*; repair or remove it", filled("steering.json", "{}".encode("utf-16"))),
    _model("a damaged adapter", ADAPTER, filled("adapter_config.json", b'{"base_model')),
    _model("an adapter without a model", ADAPTER, filled("adapter_config.json", b"{}")),
    _model("an adapter that names itself", "its base model changed is an adapter itself; name a", filled("adapter_config.json", b'{"base_model_name_or_path": "changed"}')),
    _model("more tokens than it has rows for", "token 'lake' has the id 272, the model has 272 tokens; use the tokenizer that belongs", more_tokens),
]  # fmt: skip


def filling(path: Path) -> None:
    """Link to a device that is always full."""
    path.symlink_to("/dev/full")


OUTPUTS = [
    Row("output: a file that exists", ("--output", "old"), "--output old exists; add --overwrite to replace it, or name another",
        files={"old": b"mine"}),
    works("output: a file that is replaced", ("--overwrite",), (), files={"out.jsonl": b"mine"}),
    Row("output: no name", ("--output", ""), "'--output': the name is empty"),
    Row("output: a folder", ("--output", "taste"), "'--output': File 'taste' is a directory"),
    Row("output: a missing folder", ("--output", "no/out"), "--output no/out: the folder no does not exist; make it first"),
    Row("output: in a file", ("--output", "sky.txt/out"), "--output sky.txt/out.*(exist|folder)"),
    Row("output: a link to itself", ("--output", "loop"), "--output loop cannot be written: .*; choose another place", files={"loop": lambda path: path.symlink_to(path.name)}),
    Row("output: a link to itself for a head", ("texts.tsv", "--output", "loop"), "loop is a link to nothing; name a folder", command="train-discriminator",
        files={"texts.tsv": b"a\tb\n", "loop": lambda path: path.symlink_to(path.name)}),
    Row("output: a name too long for a head", ("texts.tsv", "--output", "x" * 300), "x+.*; name", command="train-discriminator",
        files={"texts.tsv": b"a\tb\n"}),
    Row("output: a name too long", ("--output", "x" * 300), "--output x+ cannot be written: .*; choose another place"),
    Row("output: a full disk", ("--output", "full", "--no-unsteered"), "--output full cannot be written: No space left on device; choose another place", files={"full": filling}, late=True),
    Row("output: two with one name", ("--bag-from", "moon", "--save-bag", "out.jsonl"), "both name out.jsonl; give each a file of its own"),
    Row("scores: a full disk", ("texts.csv", "--csv", "/dev/full"), "/dev/full cannot be written: No space left on device; choose another place",
        files={"texts.csv": b"text\nThe lake\n"}, command="score", late=True),
    Row("scores: the file that is read", ("texts.csv", "--csv", "texts.csv", "--overwrite"), "is the file that is scored",
        files={"texts.csv": b"text\nThe lake\n"}, command="score"),
    Row("head: a folder with other things", ("texts.tsv", "--output", "tuned"), "folder tuned holds other things .*; name a new folder",
        files={"texts.tsv": b"a\tb\n", "tuned/mine": b"x"}, command="train-discriminator"),
    Row("head: a file in its place", ("texts.tsv", "--output", "sky.txt"), "sky.txt is a file; name a folder",
        files={"texts.tsv": b"a\tb\n"}, command="train-discriminator"),
]  # fmt: skip

TABLES = {"bags": BAGS, "heads": HEADS, "models": MODELS, "outputs": OUTPUTS}
