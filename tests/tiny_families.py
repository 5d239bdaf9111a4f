"""A tiny model with random weights of every class that transformers generates text with, made without the network.

Most families share the names of a shape's fields, so one table of small numbers does for them; what a family calls
otherwise, or what would lose what is its own (its kinds of layers), stands in a second table.
"""

import inspect

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

import pplm

VOCABULARY, WIDTH, LAYERS = 90, 32, 4

SHARED = {
    "vocab_size": VOCABULARY, "tie_word_embeddings": False, "use_cache": True,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.1, "init_std": 0.1,
    # width
    "hidden_size": WIDTH, "n_embd": WIDTH, "d_model": WIDTH, "embedding_size": WIDTH, "input_embedding_size": WIDTH,
    "output_embedding_size": WIDTH, "word_embed_proj_dim": WIDTH, "intermediate_size": 48, "ffn_dim": 48,
    "decoder_ffn_dim": 48, "encoder_ffn_dim": 48, "mlp_dim": 48,
    # layers and heads
    "num_hidden_layers": LAYERS, "n_layer": LAYERS, "n_layers": LAYERS, "num_layers": LAYERS, "decoder_layers": LAYERS,
    "encoder_layers": 2, "depth": 2, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    # positions
    "max_position_embeddings": 64, "n_positions": 64, "n_ctx": 64, "max_seq_len": 64, "rotary_dim": 4,
    "sliding_window": 4, "window_size": 4, "attention_chunk_size": 4,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "moe_topk": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    # attention over a projection of low rank, or over an index
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
    "index_topk": 4, "index_head_dim": 8, "index_n_heads": 2,
    # recurrent layers
    "mamba_n_heads": 4, "mamba_d_state": 8, "state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 16,
    "n_mamba_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_head_dim": 8, "linear_num_heads": 4,
    # encoders of images and sound
    "image_size": 28, "patch_size": 14, "image_token_id": 89, "image_token_index": 89, "video_token_id": 88,
    "audio_token_id": 87, "default_language": "en_XX",
}  # fmt: skip

MIXED = ["linear_attention", "full_attention"] * 2
SLIDING = ["sliding_attention", "full_attention"] * 2
CONVOLVED = ["conv", "full_attention"] * 2
HYBRID = ["linear_attention", "hybrid"] * 2
ROPE = {"rope_type": "default", "rope_theta": 1e4}
PER_LAYER = {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8}
DOTS3 = {
    "head_dim": 8, "shared_experts_intermediate_size": 16,
    "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16,
    "swa_head_dim": 8, "swa_qk_nope_head_dim": 4, "swa_v_head_dim": 8,
}  # fmt: skip
INKLING = {
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8,
    "layer_types": ["hybrid_sliding", "hybrid"] * 2,
}  # fmt: skip
QWEN4 = {
    "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4,
    "indexer_compress_ratio": 2, "hc_count": 2, "hc_lowrank": 8,
    "layer_types": ["linear_attention", "indexed_attention"] * 2,
}  # fmt: skip
OWN = {
    "bailing_hybrid": {"layer_types": MIXED},
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {
        "encoder_hash_byte_group_vocab": VOCABULARY, "encoder_hash_byte_group_size": [3],
        "local_attention_window_len": 4, "encoder_config": {"hidden_size_global": WIDTH},
        "decoder_config": {"hidden_size_global": WIDTH, "num_hidden_layers": 2},
    },
    "cohere_compass_text": {
        "layer_types": SLIDING, "rope_parameters": {"sliding_attention": ROPE, "full_attention": ROPE}
    },
    "cpmant": {
        "dim_head": 8, "dim_ff": 48, "prompt_length": 4, "position_bias_num_buckets": 8,
        "position_bias_max_distance": 32,
    },
    "ctrl": {"dff": 48},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {"o_lora_rank": 16, "num_key_value_heads": 1, "o_groups": 2},
    "dots3_note": {
        "text_config": DOTS3,
        "vision_config": {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH, "mlp_layer_types": ["dense"] * LAYERS},
        "audio_config": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH},
    },
    "dots3_note_text": DOTS3,
    "gemma3": {"text_config": {"layer_types": SLIDING}},
    "gemma3_text": {"layer_types": SLIDING},
    "gemma3n_text": {"layer_types": SLIDING, "num_kv_shared_layers": 2, **PER_LAYER, "laurel_rank": 8},
    "gemma4": {"vision_config": None, "audio_config": None, "text_config": {**PER_LAYER, "global_head_dim": 8}},
    "gemma4_assistant": {
        "backbone_hidden_size": WIDTH,
        "text_config": {
            "vocab_size_per_layer_input": 0, "hidden_size_per_layer_input": 0, "global_head_dim": 8,
            "num_kv_shared_layers": LAYERS,
        },
    },
    "gemma4_text": {**PER_LAYER, "global_head_dim": 8},
    "gemma4_unified": {"vision_config": None, "audio_config": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": MIXED},
    "hrm_text": {"num_hidden_layers": 2, "H_cycles": 1, "L_cycles": 1},
    "inkling2_text": INKLING,
    "inkling_text": INKLING,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": MIXED},
    "kolibri1": {"layer_types": SLIDING},
    "lfm2": {"layer_types": CONVOLVED},
    "lfm2_moe": {"layer_types": CONVOLVED},
    "lfm3": {"layer_types": ["conv", "full_attention", "conv", "sliding_attention"]},
    "longcat_flash": {"num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "zero_expert_num": 2},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "minimax_m3_vl_text": {
        "dense_intermediate_size": 48, "shared_intermediate_size": 16, "index_block_size": 4, "index_topk_blocks": 2
    },
    "moshi": {"sliding_window": 16},
    "nemotron_h": {
        "moe_shared_expert_intermediate_size": 16, "n_groups": 2,
        "layers_block_type": ["linear_attention", "full_attention", "moe", "full_attention"],
    },
    "phi4_multimodal": {
        "audio_config": {
            "num_blocks": 2, "nemo_conv_channels": 8, "ext_pw_out_channel": WIDTH,
            "depthwise_separable_out_channel": WIDTH,
        }
    },
    # As many layers in the encoder, because transformers sizes the decoder's cache by the encoder's.
    "prophetnet": {
        "num_encoder_layers": LAYERS, "num_encoder_attention_heads": 4, "num_decoder_layers": LAYERS,
        "num_decoder_attention_heads": 4,
    },
    "qwen4_exp": {"text_config": QWEN4},
    "qwen4_exp_text": QWEN4,
    "reformer": {
        "attention_head_size": 8, "axial_pos_shape": (8, 8), "axial_pos_embds_dim": (16, 16), "feed_forward_size": 48,
        "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8, "attn_layers": ["local", "lsh"] * 2,
    },
    "roc_bert": {
        "pronunciation_embed_dim": 8, "pronunciation_vocab_size": VOCABULARY, "shape_embed_dim": 8,
        "shape_vocab_size": VOCABULARY,
    },
    "xlnet": {"d_inner": 48},
    "zamba": {"layers_block_type": HYBRID},
    "zamba2": {"layers_block_type": HYBRID},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}  # fmt: skip


def tiny_config(config, **own):
    """Return a small config of a class, its sub-configs included."""
    names = {name for parent in config.__mro__ for name in getattr(parent, "__annotations__", {})}
    names |= set(inspect.signature(config.__init__).parameters) | set(config.attribute_map)
    shared = {name: value for name, value in SHARED.items() if name in names}
    if "kv_lora_rank" in names:  # such attention has as many heads of keys as of queries, and rotates a part of each
        shared |= {"num_key_value_heads": 4, "head_dim": SHARED["qk_rope_head_dim"]}
    for name, part in config.sub_configs_defaults.items():
        if isinstance(own.get(name, {}), dict):
            kind = CONFIG_MAPPING[part.model_type] if part.config_class is AutoConfig else part.config_class
            own[name] = tiny_config(kind, **own.get(name, {}))
    return config(**{**shared, **own})


def tiny_model(family, *, is_decoder=True):
    """Return a frozen model of about four layers and width 32; whatever transformers raises is passed on."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family]
    if family.startswith("musicgen"):  # the mapping names the config of the whole, which the class does not take
        kind = MODEL_FOR_CAUSAL_LM_MAPPING[config]
        return pplm.freeze(kind(tiny_config(kind.config_class)))
    small = tiny_config(config, **OWN.get(family, {}))
    if hasattr(small, "is_decoder"):
        small.is_decoder = is_decoder
    return pplm.freeze(AutoModelForCausalLM.from_config(small))


def tiny_tokenizer():
    """Return a tokenizer of as many words as the models have tokens: w0, w1, ..."""
    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(VOCABULARY)}, unk_token="w3"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w1", eos_token="w2", pad_token="w0")
