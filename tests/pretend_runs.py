"""What pplm does, run on the CPU and on the pretend device: `python tests/pretend_runs.py` prints a report as JSON.

It is a program because the pretend device stays in the process that has it; `test_accelerator.py` reads the report.
"""

import json
import sys
import warnings
from copy import deepcopy

import torch
from conftest import _tiny_tokenizer
from pretend_device import NAME, PretendDevice
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, TextIteratorStreamer
from transformers.utils import logging

import pplm
from attribute_models import Avoid, BagOfWords, Discriminator, classify_texts
from pplm.evaluation import JudgedText, PerplexityJudge

SHORT, LONG = 2, 3
"""New tokens of two runs, whose difference is what tokens cost."""
PROMPTS = ["The lake by the", "A cat"]
CONVERSATIONS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
TEMPLATE = "{% for message in messages %}[you]{{ message.content }}{% endfor %}[me]"
STEERING = pplm.SteeringConfig(num_iterations=2, window_length=2, decay=True)
FAMILIES = ("gpt2", "llama")


def load(family, tokenizer):
    """Return a frozen model with random weights."""
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": end, "eos_token_id": end, "initializer_range": 0.25}
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, **sizes))
    else:
        heads = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=24, **heads, **sizes))
    return pplm.freeze(model)


def first_is_done(input_ids, scores):
    """Stop the first sample at once, for transformers' `generate`."""
    return torch.arange(len(input_ids), device=input_ids.device) == 0


class Runs:
    """Everything that is tried with one model; each method returns what must be the same on both devices."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.half = model, tokenizer, deepcopy(model).bfloat16()
        self.bag = BagOfWords.from_words(["moon", "star", "zebra", "cat sea"], tokenizer)
        weight = torch.randn(3, 16, generator=torch.Generator().manual_seed(3)) * 0.3
        self.head = Discriminator.from_weights(weight, torch.zeros(3), ["a", "b", "c"], "b", name="head")
        self.mixture = [(self.bag, 1.0), (self.head, 0.5), (Avoid(BagOfWords.from_words(["sun"], tokenizer)), 0.3)]

    def texts(self, new, attributes, *, model=None, prompts=PROMPTS, **arguments):
        """Generate texts of exactly `new` tokens, unless told otherwise."""
        defaults = {"steering": STEERING, "seed": 1, "do_sample": True, "min_new_tokens": new, "max_new_tokens": new}
        made = pplm.generate(
            model or self.model, self.tokenizer, prompts, attributes=attributes, **{**defaults, **arguments}
        )
        return [text.token_ids for text in made]

    def token_runs(self):
        """Name -> texts of a number of tokens; what these cost is counted by token."""
        return {
            "unsteered": lambda new: self.texts(new, []),
            "bag": lambda new: self.texts(new, [self.bag]),
            "head": lambda new: self.texts(new, [self.head]),
            "conversation": lambda new: self.texts(new, self.mixture, prompts=CONVERSATIONS),
            "avoided bag": lambda new: self.texts(new, [Avoid(self.bag)]),
            "avoided head": lambda new: self.texts(new, [Avoid(self.head)]),
            "mixture": lambda new: self.texts(new, self.mixture),
            "half precision": lambda new: self.texts(new, [self.bag], model=self.half),
            "greedy": lambda new: self.texts(new, [self.bag], do_sample=False, seed=None),
            "global generator": lambda new: self.texts(new, [self.bag], seed=None),
            "streamed": lambda new: self.texts(
                new, [self.bag], prompts=PROMPTS[:1], streamer=TextIteratorStreamer(self.tokenizer)
            ),
            "one of two": lambda new: self.texts(new, [self.bag], min_new_tokens=1, stopping_criteria=[first_is_done]),
            "sparse": lambda new: self.texts(new, [self.bag], steering=pplm.SteeringConfig(steer_every=2)),
            "skips": lambda new: self.texts(
                new, [self.bag], steering=pplm.SteeringConfig(num_iterations=1, skip_below=1.0, skip_weak=0.2)
            ),
        }

    def other_runs(self):
        """Name -> anything else that reads the model."""
        text = [JudgedText("The moon and the sea", "The moon")]
        judge = PerplexityJudge(self.model, self.tokenizer, "judge")
        return {
            "samples that finish": lambda: self.texts(
                9, [self.bag], min_new_tokens=1, num_samples=3, stop_strings=["a", "e", "o"], seed=5
            ),
            "rerank": lambda: self.texts(3, self.mixture, rerank=pplm.Rerank(candidates=2)),
            "rerank answers": lambda: self.texts(
                3, self.mixture, prompts=CONVERSATIONS, rerank=pplm.Rerank(candidates=2)
            ),
            "seeds": lambda: list(BagOfWords.from_seeds(["moon"], self.model, self.tokenizer, size=4).weights),
            "report": lambda: round(self.bag.report(self.model).mass, 5),
            "judge": lambda: [[round(number, 3) for number in row] for row in judge.judge(text)],
            "judge's own model": lambda: judge.is_same_model(self.model),
            "classify": lambda: [
                [round(number, 4) for number in row]
                for row in classify_texts(self.model, self.tokenizer, self.head, ["The moon", "A cat"]).tolist()
            ],
        }


def tried(run):
    """Return a run's result, and its error or None."""
    torch.manual_seed(2)
    try:
        return run(), None
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is what the report is for
        return None, f"{type(error).__name__}: {error}"[:300]


def report(family):
    """Return, by name of a run, whether both devices agree, any error, and by place what a token waits for."""
    tokenizer = _tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    runs = Runs(load(family, tokenizer), tokenizer)
    by_token = runs.token_runs()
    jobs = {name: lambda run=run: run(LONG) for name, run in by_token.items()} | runs.other_runs()
    expected = {name: tried(job) for name, job in jobs.items()}
    result = {}
    with PretendDevice() as device:
        for model in (runs.model, runs.half):
            model.to(NAME)
            model.tie_weights()
        for name, job in jobs.items():
            if name in by_token:
                tried(lambda run=by_token[name]: run(1))  # what is set up once is no token's cost
                before = device.counted(lambda run=by_token[name]: tried(lambda: run(SHORT)))[1]
            found, waits = device.counted(lambda job=job: tried(job))
            entry = {"same": found == expected[name], "error": expected[name][1] or found[1]}
            if name in by_token:
                places = {key: (waits[key] - before[key]) / (LONG - SHORT) for key in waits | before}
                entry["waits"] = {" at ".join(key): count for key, count in places.items() if count}
            result[name] = entry
    return result


def over_two_devices(tokenizer):
    """Return the error of steering a model whose second half lies on another device, and how often it was read."""
    model, reads = load("llama", tokenizer), []
    model.model.layers[0].register_forward_hook(lambda *_: reads.append(1))
    with PretendDevice():
        model.lm_head.to(NAME)
        bag = BagOfWords.from_words(["moon"], tokenizer)
        _, error = tried(lambda: pplm.generate(model, tokenizer, PROMPTS, attributes=[bag], max_new_tokens=2))
    return {"error": error, "reads": len(reads)}


def own_rules():
    """Return what the pretend device itself does, so that a test can tell whether to trust it."""
    with PretendDevice() as device:
        here, there = torch.ones(3), torch.ones(3, device=NAME)
        index, row = torch.tensor([0]), torch.zeros(1, device=NAME)
        jobs = {
            "arithmetic": lambda: there.add_(1.0).clamp(max=2.0)[1:].mul_(there.new_zeros(())),
            "a number": lambda: there.sum().item(),
            "a list": lambda: there.tolist(),
            "a condition": lambda: bool((there > 1).all()),
            "there": lambda: here.to(NAME),
            "back": lambda: there.cpu(),
            "numbers from Python": lambda: there.new_tensor([7.0]),
            "indices from the host": lambda: there.__setitem__(index, row),
            "bool indices": lambda: there[there > 1],
        }
        waits = {name: sorted(what for what, _ in device.counted(job)[1].elements()) for name, job in jobs.items()}
        return {
            "refused": [tried(lambda: here + there)[1], tried(lambda: here[index.to(NAME)])[1]],
            "devices": [tensor.device.type for tensor in (there + 1, there[0] * 2, there.cpu(), here.to(NAME))],
            "values": [there.tolist(), (there + 0.5).sum().item()],
            "waits": waits,
        }


if __name__ == "__main__":
    warnings.simplefilter("error")
    logging.set_verbosity_error()
    everything = {"rules": own_rules(), "over two devices": over_two_devices(_tiny_tokenizer())}
    sys.stdout.write(json.dumps(everything | {family: report(family) for family in FAMILIES}))
