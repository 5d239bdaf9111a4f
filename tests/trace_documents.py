"""Documents of traces as `--trace` writes them, made without a model."""

import math

WORDS = ("The", "moon", "rose", "over", "the", "quiet", "lake", "and", "every", "star", "was", "bright", ".")
NASTY = (
    "</script></style><img src=x onerror=alert(1)>\u2028<!-- \"quoted\" onfocus='alert(1)' & $(id) \u202eback \0\ud800"
)


def token(place, text, names, *, steered):
    """A token whose numbers all differ."""
    gain = 0.3 * math.sin(place) ** 3 if steered else 0.0
    levels = {
        name: {"unsteered": 0.31 + place / 1e4, "final": 0.31 + place / 1e4 + gain, "gain": gain} for name in names
    }
    kinds = {
        kind: [
            {"token_id": 5 * place + rank, "text": f" {kind}{rank}", "probability": 0.5**rank * 0.4 + place / 1e5}
            for rank in range(5)
        ]
        for kind in ("unsteered", "final")
    }
    return {
        "token_id": 5 * place,
        "text": text,
        "words": names[:1] if text.strip() in ("moon", "star") else [],
        "kl": 0.2 * abs(math.cos(place)) if steered else 0.0,
        "gm_scale": 0.5 + place / 1e3 if steered else 0.0,
        "step_length": 1.25 + place / 7 if steered else None,
        "seconds": 0.01 + place / 1e5,
        "levels": levels,
        "likeliest": kinds,
    }


def document(*, names=("space",), samples=1, prompt="The evening", words=WORDS, unsteered=True):
    """A trace of some samples, each steered and, if wanted, unsteered."""
    texts = []
    for sample in range(samples):
        for steered in (False, True) if unsteered else (True,):
            tokens = [token(9 * sample + i, f" {word}", list(names), steered=steered) for i, word in enumerate(words)]
            completion = "".join(one["text"] for one in tokens)
            texts.append(
                {
                    "prompt": prompt,
                    "prompt_index": 0,
                    "sample": sample,
                    "seed": 0,
                    "steered": steered,
                    "text": prompt + completion,
                    "completion": completion,
                    "levels": dict.fromkeys(names, 0.1),
                    "tokens": tokens,
                }
            )
    attributes = [
        {
            "name": name,
            "kind": "bag_of_words",
            "weight": 1.0,
            "avoids": False,
            "words": ["moon", "star"],
            "label": None,
        }
        for name in names
    ]
    return {
        "schema_version": 1,
        "pplm": "0.1.0",
        "command": "pplm generate 'The evening' --bag space --trace out.html",
        "model": "gpt2-mini",
        "steering": {"strength": 0.5, "step_size": 0.03, "decay": False, "target": None, "layers": 0},
        "attributes": attributes,
        "texts": texts,
    }
