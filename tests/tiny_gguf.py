"""A tiny model in a GGUF file."""

import json

import gguf
import torch


def write_llama_gguf(tokenizer, path, *, seed=0):
    """Write a tiny Llama with random weights as people's GGUF files are, and return the path."""
    width, generator = 32, torch.Generator().manual_seed(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(tokenizer))
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*state["vocab"], tokenizer.eos_token])
    writer.add_token_types([1] * len(state["vocab"]) + [3])
    writer.add_token_merges([" ".join(pair) for pair in state["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {f"blk.0.{name}": (width, width) for name in square}
    shapes |= {"blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    shapes |= {"token_embd": (len(tokenizer), width), "output": (len(tokenizer), width), "output_norm": (width,)}
    for name, shape in sorted(shapes.items()):
        writer.add_tensor(f"{name}.weight", torch.randn(shape, generator=generator).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
