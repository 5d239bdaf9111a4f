"""A Llama of four layers, trained in about a minute on this repository's prose: a model that pplm has never seen."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parents[1]


def small_llama(tokenizer):
    """Train it with the embedded model's tokenizer; return it frozen."""
    prose = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("**/*.md")))
    ids = torch.tensor(tokenizer(prose, verbose=False)["input_ids"])
    blocks = ids[: len(ids) // 64 * 64].view(-1, 64)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=128, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(250):
        batch = blocks[torch.randint(len(blocks), (16,), generator=torch.Generator().manual_seed(step))]
        loss = model(batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 5
    return model.eval().requires_grad_(False)
