"""Where a model's weights lie: on one device, or the model is refused by name before anything is computed."""

import copy

import pytest
import torch
from accelerate import cpu_offload
from helpers import decode

import pplm
from pplm.errors import InputError

ALL = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu", "model.rotary_emb": "cpu"}
STEERING = pplm.SteeringConfig(step_size=0.3, num_iterations=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, llama, tokenizer):
    place = tmp_path_factory.mktemp("llama")
    llama.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}])
def test_a_map_to_one_device_loads_the_same_model(folder, llama, bag, device_map, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    model, _ = pplm.load_model(folder, device_map=device_map)
    prompts = [[3, 4, 5, 6]]
    there, here = (decode(one, prompts, [bag], STEERING, new=3) for one in (model, llama))
    assert torch.equal(there.sequences, here.sequences)
    torch.testing.assert_close(there.logits, here.logits)


def test_a_device_beside_a_map_is_refused(folder):
    with pytest.raises(InputError, match=r"device='cpu' and device_map='auto' both place the model; leave one of them"):
        pplm.load_model(folder, device="cpu", device_map="auto")


def test_a_map_that_leaves_weights_on_the_disk_is_refused_while_loading(folder, tmp_path):
    device_map = {**ALL, "model.layers.0": "cpu", "model.layers.1": "disk"}
    with pytest.raises(InputError, match=r"LlamaForCausalLM keeps weights off its device .*quantize='int8'"):
        pplm.load_model(folder, device_map=device_map, offload_folder=tmp_path)


def test_a_model_that_its_user_has_offloaded_is_refused_before_it_is_read(llama, bag):
    model = cpu_offload(copy.deepcopy(llama), torch.device("cpu"))
    reads = []
    model.model.layers[0].register_forward_hook(lambda *_: reads.append(1))
    with pytest.raises(InputError, match="LlamaForCausalLM keeps weights off its device"):
        decode(model, [[3, 4, 5]], [bag], STEERING, new=2)
    assert not reads
