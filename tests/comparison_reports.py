"""Comparisons and sweeps made by hand, for the tests of their reports and pictures."""

from pplm.comparison.attributes import Attribute
from pplm.comparison.budget import BASE, Budget
from pplm.comparison.measures import MeasuredText, MethodRow, measure_methods, measure_texts
from pplm.comparison.methods import PAPER_METHODS, Chosen
from pplm.comparison.report import Comparison
from pplm.comparison.samples import Sample
from pplm.comparison.sweep_report import Sweep

PROMPTS = ["So", "In all", "But"]


class Judge:
    name, columns = "a judge", ("nll", "tokens")

    def judge(self, texts):
        return [(3.0 * len(text.completion.split()), float(len(text.completion.split()))) for text in texts]


def texts_of(methods, words, judges=()):
    items = [
        Chosen(method, attribute, Sample("arm", prompt, 0, 0, PROMPTS[prompt], f" {text} {prompt}", 4, 0.5), 0.5)
        for method, text in zip(methods, words, strict=True)
        for attribute in ("space", "legal")
        for prompt in range(3)
    ]
    wanted = {
        "space": Attribute(bag_words={"star"}, held_out_words={"orbit"}),
        "legal": Attribute(bag_words={"law"}, held_out_words={"jury"}),
    }
    return measure_texts(items, wanted, judges)


SETTINGS = {"prompts": PROMPTS, "new_tokens": 4, "samples": 2, "pools": 1, "batch_size": 40, "seed": 0}


JUDGES = (Judge(),)


def comparison(judges=JUDGES, paper="topics", **values):
    words = ["a plain text", "a text of law", "the star in orbit", "the jury in | orbit"]
    texts = texts_of(PAPER_METHODS, words, judges)
    return Comparison(**findings(texts, judges), paper=paper, **values)


def findings(texts, judges, notes=("Mind this.",)):
    return {
        "model": "tiny",
        "rows": measure_methods(texts, replicates=50),
        "texts": texts,
        "judges": [judge.name for judge in judges],
        "notes": notes,
        "settings": SETTINGS,
        "surroundings": {"processes": 1},
    }


def table_after(text, heading):
    """Return the cells of the first table behind a heading."""
    lines = text[text.index(heading) :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    body = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        body.append([cell.strip() for cell in line.strip("|").split("|")])
    return [body[0], *body[2:]]


def row(method, main, perplexity=30.0, repeats=0.001, attribute=""):
    values = {"held_out_share": main, "perplexity": perplexity, "repeats": repeats, "dist_3": 0.9}
    return MethodRow(method, attribute, 1, values, {})


ROWS = [
    row(BASE, 0.01),
    row("mild", 0.02, 31.0),
    row("right", 0.05, 37.5, 0.011),
    row("strong", 0.20, 38.0),
    row("loops", 0.30, 10.0, 0.1),
]


def sweep(judges=JUDGES, budget=None):
    texts = texts_of([BASE, "step_size 0.1", "step_size 9"], ["a plain text", "the jury in orbit", "a a a a"], judges)
    assert isinstance(texts[0], MeasuredText)
    return Sweep(**findings(texts, judges), main="held_out_share", budget=budget or Budget())
