"""What `scripts/memory_table.py` predicts from shapes is what a tiny model's tensors take."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from helpers import decode, stored_bytes
from transformers import LlamaConfig, LlamaForCausalLM

import pplm
from pplm.models.quantized import quantize_loaded
from pplm.text import mover, objective
from pplm.text.kv_cache import KeyValueBuffer

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "memory_table.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="needs a checkout")
HEADS = {"heads of their own": 8, "shared heads": 2}
NEW = 70
STEERING = pplm.SteeringConfig(step_size=0.1, num_iterations=1)


@pytest.fixture(scope="module")
def table():
    found = importlib.util.spec_from_file_location("memory_table", SCRIPT)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # where dataclasses look up their annotations
    found.loader.exec_module(module)
    return module


def llama(kv_heads, tied=False):
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4, "vocab_size": 90}
    heads = {"num_attention_heads": 8, "num_key_value_heads": kv_heads, "max_position_embeddings": 256}
    torch.manual_seed(0)
    return pplm.freeze(LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=tied)))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_take_what_their_shapes_predict(table, kind, tied):
    model = llama(2, tied)
    if kind.startswith("int"):
        pytest.importorskip("torchao")
    if kind != "float32":
        model = model.bfloat16()
    if kind.startswith("int"):
        quantize_loaded(model, kind)
    assert table.weight_bytes(table.Shape.of("llama", model.config), kind) == sum(map(stored_bytes, model.parameters()))


@pytest.mark.parametrize("kv_heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("moved", [4, 1])
def test_histories_take_what_their_shapes_predict(table, bag, monkeypatch, kv_heads, moved):
    model, sizes = llama(kv_heads), []
    whole = KeyValueBuffer.reserve

    def reserve(buffer, positions):
        found = whole(buffer, positions)
        sizes.append(sum(t.nbytes for layer in buffer.layers for t in layer))
        return found

    monkeypatch.setattr(KeyValueBuffer, "reserve", reserve)
    steering = pplm.SteeringConfig(**{**STEERING.__dict__, "layers": moved % 4, "steer_every": 50})
    decode(model, [list(range(3, 40))], [bag], steering, new=NEW)
    shape = table.Shape.of("llama", model.config)
    assert table.cache_bytes(shape, "float32", moved, 37, NEW) == pytest.approx(max(sizes), rel=0.02)


@pytest.mark.parametrize("kv_heads", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("moved", [4, 1])
def test_what_a_token_keeps_for_its_gradient_is_what_the_shapes_predict(table, bag, monkeypatch, kv_heads, moved):
    model, kept = llama(kv_heads), []
    buffers = {p.untyped_storage().data_ptr() for p in model.parameters()}
    call = objective.TextObjective.__call__

    def counted(self, window):
        storages = {}
        histories = {t.untyped_storage().data_ptr() for layer in self.text.reader.histories.layers for t in layer}
        windows = {t.untyped_storage().data_ptr() for layer in window for t in layer}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in buffers | histories | windows:
                storages[storage.data_ptr()] = tensor, storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = call(self, window)
        kept.append(sum(size for _, size in storages.values()))
        return result

    monkeypatch.setattr(mover.TextObjective, "__call__", counted)
    steering = pplm.SteeringConfig(**{**STEERING.__dict__, "layers": moved % 4})
    decode(model, [[3 + n % 80 for n in range(117)]], [bag], steering, new=2)
    shape = table.Shape.of("llama", model.config)
    distribution = table._DISTRIBUTIONS * 4 * shape.vocabulary
    predicted = table.kept_bytes(shape, "float32", moved) + distribution
    assert 0.6 * kept[-1] < predicted < 1.6 * kept[-1], (predicted, kept)
