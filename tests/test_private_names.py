"""The private names of transformers and torch that pplm touches: which one broke, and who uses it."""

import ast
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from transformers import DynamicCache, GenerationConfig, cache_utils
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HCACache

import pplm
from pplm import private_names
from pplm.text.steerable import _KEPT

ROOT = Path(pplm.__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "pplm").rglob("*.py"), *(ROOT / "attribute_models").rglob("*.py")])
IDS = torch.tensor([[5, 6, 7]])


def generate(model, **options):
    """Return the generation config that a decoding loop gets from `generate`, and the model's arguments."""
    found = []

    def loop(model, input_ids, generation_config, **arguments):
        found.append((generation_config, arguments))
        return input_ids

    model.generate(IDS, custom_generate=loop, max_new_tokens=2, pad_token_id=9, **options)
    return found[0]


def prompt_is_read(gpt2):
    config, _ = generate(gpt2)
    arguments = {"past_key_values": DynamicCache(), "attention_mask": torch.ones_like(IDS), "use_cache": True}
    logits = private_names.prefill(gpt2, IDS, config, arguments).logits
    assert torch.allclose(logits[:, -1], gpt2(IDS).logits[:, -1], atol=1e-5)


def arguments_grow_by_one_token(gpt2):
    outputs = CausalLMOutputWithPast(past_key_values=DynamicCache())
    grown = private_names.with_next_token(gpt2, outputs, {"attention_mask": torch.ones_like(IDS)})
    assert grown["attention_mask"].tolist() == [[1, 1, 1, 1]]
    assert grown["past_key_values"] is outputs.past_key_values


def padding_is_no_position(gpt2):
    mask = torch.tensor([[0, 1, 1]])
    assert private_names.position_ids(gpt2, IDS, {"attention_mask": mask})[0, 1:].tolist() == [0, 1]


def padding_is_resolved(gpt2):
    assert private_names.pad_token(generate(gpt2)[0]).tolist() == 9


def length_of_a_mask_that_masks_nothing(gpt2):
    config, arguments = generate(gpt2, attention_mask=torch.ones_like(IDS))
    length = private_names.mask_length(config)
    assert (length if arguments.get("attention_mask") is None else 3) == 3
    assert private_names.mask_length(GenerationConfig()) is None


def layers_of_caches_name_themselves(_):
    assert private_names.layer_type(cache_utils.DynamicLayer()) is None
    assert private_names.layer_type(DeepseekV4HCACache) == "heavily_compressed_attention"


def recurrent_models_say_so(gpt2):
    assert private_names.is_stateful(transformers.MambaForCausalLM)
    assert not private_names.is_stateful(gpt2)


def a_shallow_copy_has_its_own_children(_):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    own = private_names.shallow_copy(model)
    own.add_module("1", nn.Tanh())
    assert (type(model[1]), type(own[1])) == (nn.ReLU, nn.Tanh)
    assert own[0] is model[0]


def changes_in_place_are_counted(_):
    tensor = torch.zeros(2)
    before = private_names.version_of(tensor)
    tensor += 1
    assert private_names.version_of(tensor) == before + 1


class Wrapped(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError


def a_wrapper_has_a_shape_without_numbers(_):
    made = private_names.wrapper_of(Wrapped, (3, 4), dtype=torch.float32, device=torch.device("cpu"))
    assert (type(made), made.shape, made.dtype) == (Wrapped, (3, 4), torch.float32)


def products_are_products(_):
    assert private_names.has_linear_pointwise()
    rows, weight, bias = torch.randn(3, 8), torch.randn(5, 8), torch.randn(5)
    found = private_names.linear_pointwise(rows, weight, bias)
    assert torch.allclose(found, nn.functional.linear(rows, weight, bias), atol=1e-5)


def trees_are_mapped(_):
    assert private_names.tree_map(lambda leaf: leaf + 1, {"a": (1, [2])}) == {"a": (2, [3])}


CHECKS = {
    "prefill": ("GenerationMixin._prefill", prompt_is_read),
    "with_next_token": ("GenerationMixin._update_model_kwargs_for_generation", arguments_grow_by_one_token),
    "position_ids": ("GenerationMixin._prepare_position_ids_for_generation", padding_is_no_position),
    "pad_token": ("GenerationConfig._pad_token_tensor", padding_is_resolved),
    "mask_length": ("GenerationConfig._mask_length", length_of_a_mask_that_masks_nothing),
    "layer_type": ("CacheLayerMixin._layer_type", layers_of_caches_name_themselves),
    "is_stateful": ("PreTrainedModel._is_stateful", recurrent_models_say_so),
    "shallow_copy": ("torch.nn.Module._modules", a_shallow_copy_has_its_own_children),
    "version_of": ("torch.Tensor._version", changes_in_place_are_counted),
    "wrapper_of": ("torch.Tensor._make_wrapper_subclass", a_wrapper_has_a_shape_without_numbers),
    "has_linear_pointwise": ("torch.ops.mkldnn._linear_pointwise", products_are_products),
    "linear_pointwise": ("torch.ops.mkldnn._linear_pointwise", products_are_products),
    "tree_map": ("torch.utils._pytree.tree_map", trees_are_mapped),
}


def users_of(function):
    """Return the modules that import a function of `private_names`, as paths."""
    return [
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "pplm.private_names"
        if function in {alias.name for alias in node.names}
    ]


def check(function, gpt2):
    name, test = CHECKS[function]
    try:
        test(gpt2)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is news of this name
        pytest.fail(
            f"{name} is no longer what pplm takes it for (transformers {transformers.__version__}, torch "
            f"{torch.__version__}); private_names.{function} is used by {', '.join(users_of(function))}: "
            f"{type(error).__name__}: {error}"
        )


@pytest.mark.parametrize("function", private_names.__all__)
def test_a_private_name_is_what_it_was(function, gpt2):
    assert users_of(function)
    check(function, gpt2)


def test_a_private_name_that_is_gone_is_named_with_its_users(gpt2, monkeypatch):
    monkeypatch.setattr(type(gpt2), "_prefill", None)
    with pytest.raises(pytest.fail.Exception, match=r"GenerationMixin\._prefill .* used by pplm/text/steered_text\.py"):
        check("prefill", gpt2)


def test_layers_of_caches_still_have_the_names_by_which_they_are_refused():
    missing = {name for name in _KEPT if not hasattr(cache_utils, name)}
    assert missing <= {"BaseQuantizedLayer", "DummyLayer"}  # which came with transformers 5.23


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def own_names(trees):
    """Return the private names that the packages define themselves."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store())
                | ast.Name(id=name, ctx=ast.Store())
            ):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
    return names


def private_uses(tree):
    """Return the private names that a syntax tree asks of anything, by a dot, by `getattr` or by an import."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if is_private(name):
                yield name
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr" | "delattr"), args=[_, ast.Constant(name), *_]
            ):
                if is_private(str(name)):
                    yield name
            case ast.ImportFrom(module=module, names=names):
                yield from filter(is_private, [*(module or "").split("."), *(alias.name for alias in names)])


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("model._prefill(ids)", ["_prefill"]),
        ("getattr(config, '_mask_length', None)", ["_mask_length"]),
        ("from torch.utils._pytree import tree_map", ["_pytree"]),
        ("self._own = other.__dict__", ["_own"]),
    ],
)
def test_a_private_name_is_found_however_it_is_asked_for(code, found):
    assert list(private_uses(ast.parse(code))) == found


def test_nothing_else_touches_a_private_name_of_others():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    own = own_names(trees.values()) | {"_getframe", "_exit"}  # of sys and os, which Python documents
    touched = {
        str(path.relative_to(ROOT)): sorted({name for name in private_uses(tree) if name not in own})
        for path, tree in trees.items()
        if path.name != "private_names.py"
    }
    assert {path: names for path, names in touched.items() if names} == {}
