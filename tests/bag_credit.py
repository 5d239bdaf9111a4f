"""What a bag of words is shown at a step, and what it credits a token with."""

import torch

from pplm.interface import SteeringStep


def step(logits, ids=None):
    ids = torch.zeros(logits.shape[0], 1, dtype=torch.long) if ids is None else torch.as_tensor(ids)
    return SteeringStep(ids, torch.ones_like(ids).bool(), logits, lambda: None)


def random_logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def credit(bag, ids, token, size=None):
    """Return what a bag credits a token with after a text: its mass where the token is certain."""
    logits = torch.full((1, size or bag.vocab_size), -1000.0)
    logits[0, token] = 1000.0
    return round(bag.log_mass(step(logits, [ids])).exp().item(), 15)  # a text where nothing counts has a tiny mass


def rest(model, sequence, after):
    """Return the probability of a sequence's tokens from `after` on, by one pass for each of them."""
    probability = 1.0
    for position in range(after, len(sequence)):
        ids = torch.tensor([[model.config.bos_token_id, *sequence[:position]]])
        probability *= model(ids).logits[0, -1].softmax(-1)[sequence[position]].item()
    return probability
