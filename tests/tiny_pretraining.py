"""A tiny corpus, a tiny GPT-2 and a budget of steps for the tests of `pplm.pretraining`."""

import random

import torch

import pplm
from pplm.pretraining import Architecture, BaseModelRequest, TrainingSettings, train_base_model

SHAPE = Architecture(num_layers=2, width=16, num_heads=2, num_positions=32, vocab_size=300)
NOUNS = ("moon", "star", "sun", "sea", "cat", "rain", "wind", "stone")
VERBS = ("sees", "hears", "likes", "follows", "leaves")


def settings(**changes):
    """Twelve steps of 64 tokens, then 128, with a checkpoint after each, in float32."""
    usual = {
        "steps": 12,
        "warmup_steps": 2,
        "tokens_per_step": 64,
        "late_tokens_per_step": 128,
        "micro_batch_tokens": 128,
        "block_length": 16,
        "checkpoint_minutes": 0,
        "precision": "float32",
        "validation_fraction": 0.1,
    }
    return TrainingSettings(**{**usual, **changes})


def documents(number=30, seed=0):
    """Little stories, each a line."""
    rng = random.Random(seed)
    return [
        " ".join(f"The {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)}." for _ in range(10))
        for _ in range(number)
    ]


def write_corpus(folder, texts=None):
    """Write a text file with separators and return its path."""
    path = folder / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(texts or documents()), encoding="utf-8")
    return path


def train(source, output, *, resume=False, on_step=lambda _: None, changes=None, shape=SHAPE, **request):
    """Train the tiny model on one source."""
    return train_base_model(
        BaseModelRequest(sources=(str(source),), **request),
        output,
        settings=settings(**(changes or {})),
        architecture=None if "init" in request else shape,
        resume=resume,
        on_step=on_step,
    )


def curve(report):
    """Return what does not depend on the clock: step, tokens, loss, learning-rate share and progress of every step."""
    return [(s.step, s.tokens, s.loss, s.lr_share, s.done) for s in report.steps]


class CrashError(Exception):
    """Stands for everything that ends a process without asking."""


def stop_after(step, error=CrashError):
    """Return an `on_step` that raises an error after a step."""

    def on_step(report):
        if report.step == step:
            raise error

    return on_step


def weights(folder):
    """Return the parameters of a trained model by name."""
    model, _ = pplm.load_model(folder, device="cpu")
    return dict(model.named_parameters())


def assert_same_weights(one, other):
    """Compare the models of two folders bit by bit."""
    for (name, first), second in zip(weights(one).items(), weights(other).values(), strict=True):
        assert torch.equal(first, second), name
