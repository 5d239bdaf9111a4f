"""Loading models: the embedded one, folders, files, devices and formats."""

import json
import shutil
import time

import huggingface_hub.constants
import pytest
import torch
from tiny_gguf import write_llama_gguf
from transformers import T5Config, T5ForConditionalGeneration

import pplm
from pplm import InputError
from pplm.models.resources import data_path, shipped_names


@pytest.fixture(scope="module")
def folder(gpt2, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    gpt2.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_the_embedded_model_is_loaded_frozen_in_evaluation_mode(embedded):
    model, tokenizer = embedded
    assert not model.training
    assert all(not p.requires_grad and p.grad is None for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 10e6 < model.num_parameters() < 13e6
    assert len(tokenizer) == model.config.vocab_size


def test_the_embedded_model_continues_english_text(embedded):
    model, tokenizer = embedded
    text = pplm.generate(model, tokenizer, "The lake is in the north of the", max_new_tokens=12)[0].completion
    assert len([word for word in text.split() if word.isalpha()]) >= 4


def test_the_embedded_model_comes_with_its_card():
    assert data_path("gpt2-mini", "MODEL_CARD.md").is_file()
    assert "gpt2-mini" in shipped_names("") or data_path("gpt2-mini").is_dir()


def test_the_embedded_model_has_its_own_preset_beside_its_weights(embedded):
    assert pplm.steering_presets(embedded[0]).paper["bag_of_words"]["step_size"] >= 0.05


def test_a_local_folder_is_loaded_with_its_own_weights(folder, gpt2):
    for name in (folder, str(folder)):
        model, tokenizer = pplm.load_model(name, device="cpu")
        assert torch.equal(model.lm_head.weight, gpt2.lm_head.weight)
        assert len(tokenizer) == model.config.vocab_size
        assert not model.training


def test_the_activation_of_gpt2_is_computed_in_one_kernel_and_is_the_same_function(folder, gpt2):
    model, _ = pplm.load_model(folder, device="cpu")
    assert gpt2.config.activation_function == "gelu_new"
    numbers = torch.linspace(-9, 9, 501)
    for loaded, original in zip(model.transformer.h, gpt2.transformer.h, strict=True):
        assert type(loaded.mlp.act) is torch.nn.GELU
        torch.testing.assert_close(loaded.mlp.act(numbers), original.mlp.act(numbers))
    ids = torch.arange(1, 9)[None]
    torch.testing.assert_close(model(ids).logits, gpt2(ids).logits)


def test_a_model_loaded_in_inference_mode_can_be_steered(folder, bag):
    with torch.inference_mode():
        model, tokenizer = pplm.load_model(folder, device="cpu")
        out = pplm.generate(model, tokenizer, "The sea", attributes=[bag], max_new_tokens=2)[0]
    assert all(token for token in out.kl)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_loaded_in_the_wanted_number_format(folder, dtype):
    model, _ = pplm.load_model(folder, device="cpu", dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}


def test_an_unknown_number_format_is_refused_with_the_known_ones(folder):
    with pytest.raises(InputError, match="dtype must be one of float32, bfloat16, float16; got 'int8'"):
        pplm.load_model(folder, dtype="int8")


@pytest.mark.parametrize("device", ["cuda:7", "toaster", "", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(folder, device):
    with pytest.raises(InputError, match=f"device '{device}' is not available"):
        pplm.load_model(folder, device=device)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    for name in (str(tmp_path / "none"), "./none", "~/none/such", "a/b/c"):
        with pytest.raises(InputError, match="does not exist"):
            pplm.load_model(name)


def test_a_home_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="nosuchuser"):
        pplm.load_model("~nosuchuser/model")


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="is a file; pass a folder"):
        pplm.load_model(tmp_path / "model.bin")


def test_a_gguf_file_that_is_not_there_or_is_damaged_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.gguf does not exist"):
        pplm.load_model(tmp_path / "none.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(InputError, match=r"bad\.gguf"):
        pplm.load_model(tmp_path / "bad.gguf")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot load model"):
        pplm.load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_folder_with_a_damaged_file_is_refused(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "tiny")
    (tmp_path / "tiny" / name).write_bytes(b"\x10\x00\x00")
    with pytest.raises(InputError, match="cannot load model"):
        pplm.load_model(tmp_path / "tiny", device="cpu")


def test_an_encoder_decoder_is_refused(tmp_path):
    config = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is an encoder-decoder; steering needs a decoder-only"):
        pplm.load_model(tmp_path)


@pytest.mark.alone
@pytest.mark.parametrize("name", ["openai-community/gpt2-medium", "no-such-model"])
def test_a_hub_id_without_network_is_refused_at_once(offline, name):
    began = time.time()
    with pytest.raises(
        InputError, match=f"cannot load model '{name}'.*check the spelling and the network.*gpt2-mini, smollm2"
    ):
        pplm.load_model(name)
    assert time.time() - began < 5


def test_a_model_without_a_preset_file_has_no_settings_of_its_own(gpt2):
    assert pplm.steering_presets(gpt2) == pplm.SteeringPresets()


def test_a_preset_file_beside_the_weights_is_read(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "tiny")
    (tmp_path / "tiny" / "steering.json").write_text('{"bag_of_words": {"step_size": 0.5}}')
    model, _ = pplm.load_model(tmp_path / "tiny", device="cpu")
    presets = pplm.steering_presets(model)
    assert pplm.SteeringConfig.for_attributes([], presets=presets).step_size == 0.5


def test_a_preset_file_is_read_in_the_subfolder_of_the_weights(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "tiny")
    (tmp_path / "steering.json").write_text('{"bag_of_words": {"step_size": 0.4}}')
    (tmp_path / "tiny" / "steering.json").write_text('{"bag_of_words": {"step_size": 0.5}}')
    model, _ = pplm.load_model(tmp_path, subfolder="tiny", device="cpu")
    assert pplm.steering_presets(model).paper == {"bag_of_words": {"step_size": 0.5}}


def test_a_model_that_was_not_loaded_takes_no_preset_file_of_the_current_folder(gpt2, tmp_path, monkeypatch):
    (tmp_path / "steering.json").write_text('{"bag_of_words": {"step_size": 0.5}}')
    monkeypatch.chdir(tmp_path)
    assert pplm.steering_presets(gpt2) == pplm.SteeringPresets()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "\xff",
        [],
        3,
        {"bag_of_words": 3},
        {"bag_of_words": {"stepsize": 1}},
        {"bag_of_words": {"gamma": 9}},
        {"bag": {"step_size": 0.5}},
    ],
)
def test_a_preset_file_that_is_no_table_of_settings_is_refused_by_path(folder, tmp_path, content):
    shutil.copytree(folder, tmp_path / "tiny")
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "tiny" / "steering.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"steering\.json"):
        pplm.load_model(tmp_path / "tiny", device="cpu")


def test_freezing_gives_back_the_model_itself():
    layer = torch.nn.Linear(2, 2).train()
    assert pplm.freeze(layer) is layer
    assert not layer.training
    assert not layer.weight.requires_grad


def test_a_hub_that_cannot_be_reached_is_asked_once_and_told_in_one_line(monkeypatch):
    asked = []

    def no_network(self, name, **options):
        asked.append(name)
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", no_network)
    with pytest.raises(InputError, match=r"'someone/nowhere-to-be-found': .*nor in the local cache.*cannot be reached"):
        pplm.load_model("someone/nowhere-to-be-found")
    assert asked == ["someone/nowhere-to-be-found"]


@pytest.fixture
def llama_gguf(tokenizer, tmp_path):
    return write_llama_gguf(tokenizer, tmp_path / "tiny.gguf")


def test_a_model_from_a_gguf_file_can_be_saved_and_loaded_again(llama_gguf, tmp_path):
    model, tokenizer = pplm.load_model(llama_gguf, device="cpu")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = pplm.load_model(tmp_path, device="cpu")
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_further_arguments_reach_transformers(folder):
    model, _ = pplm.load_model(folder, device="cpu", attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    with pytest.raises(InputError, match="cannot load model"):
        pplm.load_model(folder, device="cpu", not_an_argument=1)


def test_a_subfolder_is_where_the_files_are(folder):
    model, _ = pplm.load_model(folder.parent, device="cpu", subfolder=folder.name)
    assert model.config.n_layer == 2


def adapter_of(folder, path):
    path.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 2, "target_modules": ["c_attn"]}
    (path / "adapter_config.json").write_text(json.dumps({**config, "task_type": "CAUSAL_LM", "fan_in_fan_out": True}))
    return path


def test_an_adapter_without_peft_is_refused_with_the_package_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pplm.models.loading.find_spec", lambda _: None)
    with pytest.raises(InputError, match="needs the package peft"):
        pplm.load_model(adapter_of(folder, tmp_path / "adapter"), device="cpu")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's, about names of transformers
def test_a_lora_adapter_is_put_on_its_model_and_steered(folder, tokenizer, bag, tmp_path):
    peft = pytest.importorskip("peft", reason="LoRA adapters need peft")
    base, _ = pplm.load_model(folder, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tuned = peft.get_peft_model(
            base, peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
        )
        tuned.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "steering.json").write_text('{"fast": {"bag_of_words": {"step_size": 0.4}}}')
    model, loaded = pplm.load_model(tmp_path / "adapter", device="cpu")
    plain, _ = pplm.load_model(folder, device="cpu")
    ids = torch.tensor([[3, 4, 5]])
    assert not torch.allclose(model(ids).logits, plain(ids).logits)
    assert not any(p.requires_grad for p in model.parameters())
    assert pplm.SteeringConfig.for_attributes([bag], presets=pplm.steering_presets(model)).step_size == 0.4
    pplm.generate(model, loaded, "the moon", attributes=[bag], max_new_tokens=3)
