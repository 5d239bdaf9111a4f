"""Drawing the texts of a run: each once, the same however often it was interrupted."""

import json
from dataclasses import replace

import pytest
from helpers import STRONG

import pplm
from attribute_models import BagOfWords
from pplm import InputError
from pplm.comparison.pool import Arm, PoolPlan, draw_pools
from pplm.comparison.samples import SampleFiles
from pplm.models.processes import Processes

PROMPTS = ("The sea is", " moon", "Cats and a star")
PLAN = PoolPlan(PROMPTS, samples=2, new_tokens=5, batch_size=4, sampling={"top_k": 20})
ARMS = [Arm("unsteered"), Arm("steered to sky", "sky", STRONG)]


@pytest.fixture(scope="module")
def attributes(tokenizer):
    words = {"sky": ["moon", "star", "sun"], "sea": ["sea"]}
    return {name: [BagOfWords.from_words(own, tokenizer, name=name)] for name, own in words.items()}


def draw(gpt2, tokenizer, attributes, folder, *, plan=PLAN, arms=ARMS, processes=None, **arguments):
    processes = processes or Processes()
    files = SampleFiles(folder, index=processes.index, count=processes.count)
    return draw_pools(gpt2, tokenizer, plan, arms, attributes, files, processes=processes, **arguments)


def texts(pools):
    return {key: (text.completion, text.scores) for key, text in pools.samples.items()}


@pytest.fixture(scope="module")
def whole(gpt2, tokenizer, attributes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return draw(gpt2, tokenizer, attributes, folder), folder / "samples.jsonl"


def test_every_arm_has_every_prompt_s_texts_in_order(whole):
    pools, path = whole
    keys = [(arm.name, p, 0, s) for arm in ARMS for p in range(3) for s in range(2)]
    assert list(pools.samples) == keys
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["arm"], line["prompt_index"], line["pool"], line["sample"]) for line in lines] == keys
    assert [line["prompt"] for line in lines] == [p for p in PROMPTS for _ in range(2)] * 2
    assert all(line["seconds"] > 0 and 1 <= line["tokens"] <= 5 for line in lines)
    assert {line["readings"] for line in lines[4:6]} == {5}  # one for each token
    assert all(line["readings"] > 5 for line in lines[6:])
    assert pools.of("unsteered", 1, 0) == [pools.samples["unsteered", 1, 0, s] for s in range(2)]


def test_unsteered_texts_are_ranked_by_every_attribute_and_steered_ones_by_their_own(whole):
    for (arm, *_), text in whole[0].samples.items():
        assert set(text.scores) == ({"sky", "sea"} if arm == "unsteered" else {"sky"})


def test_the_texts_are_those_that_generate_gives(gpt2, tokenizer, attributes, whole):
    for arm in ARMS:
        models = attributes["sky"] if arm.attribute else []
        found = pplm.generate(
            gpt2, tokenizer, list(PROMPTS), attributes=models, steering=arm.steering, num_samples=2, seed=0,
            max_new_tokens=5, do_sample=True, top_k=20,
        )  # fmt: skip
        own = [text.completion for (name, *_), text in whole[0].samples.items() if name == arm.name]
        assert own == [text.completion for text in found]


def test_pools_are_what_runs_with_consecutive_seeds_give(gpt2, tokenizer, attributes, whole, tmp_path):
    several = draw(gpt2, tokenizer, attributes, tmp_path, plan=replace(PLAN, pools=2))
    written = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    order = [(line["arm"], line["pool"], line["prompt_index"], line["sample"]) for line in written]
    assert order == [(arm.name, k, p, s) for arm in ARMS for k in range(2) for p in range(3) for s in range(2)]
    lines = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "samples.jsonl").write_text("".join(lines[:9]), encoding="utf-8")  # within the second pool
    assert texts(draw(gpt2, tokenizer, attributes, tmp_path, plan=replace(PLAN, pools=2))) == texts(several)
    (tmp_path / "samples.jsonl").unlink()
    second = draw(gpt2, tokenizer, attributes, tmp_path, plan=replace(PLAN, seed=1))
    for pool, run in enumerate([whole[0], second]):
        own = {(arm, p, 0, s): text for (arm, p, k, s), text in texts(several).items() if k == pool}
        assert own == texts(run)
    assert texts(second) != texts(whole[0])


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 7, 11, 12])
def test_an_interrupted_run_goes_on_and_gives_the_same(gpt2, tokenizer, attributes, whole, tmp_path, kept, caplog):
    pools, path = whole
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    half = lines[kept][:20] if kept < len(lines) else ""
    (tmp_path / "samples.jsonl").write_text("".join(lines[:kept]) + half, encoding="utf-8")
    drawn = []
    again = draw(gpt2, tokenizer, attributes, tmp_path, on_progress=lambda done, total: drawn.append((done, total)))
    assert texts(again) == texts(pools)
    assert ("incomplete" in caplog.text) == bool(half)
    assert "differently" not in caplog.text
    # Groups hold the texts of two prompts, of which there are three: 4 + 2 + 4 + 2.
    missing = {0: 12, 1: 12, 3: 12, 4: 8, 7: 6, 11: 2, 12: 0}[kept]
    assert drawn[0] == (0, missing)
    assert drawn[-1] == (missing, missing)
    kept_as_they_were = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:kept]
    assert kept_as_they_were == lines[:kept]


def test_texts_that_come_out_otherwise_are_told_and_the_first_ones_kept(
    gpt2, tokenizer, attributes, whole, tmp_path, caplog
):
    lines = [json.loads(line) for line in whole[1].read_text().splitlines()[:3]]
    lines[1]["completion"] = " from another machine"
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = draw(gpt2, tokenizer, attributes, tmp_path)
    assert "1 texts of an interrupted group come out differently" in caplog.text
    assert again.samples["unsteered", 0, 0, 1].completion == " from another machine"


def test_without_ranking_no_text_is_read_again(gpt2, tokenizer, tmp_path):
    class Shouting:
        def loss(self, step):
            return -step.log_probs[:, 0]

    plan = PoolPlan(PROMPTS[:1], samples=1, new_tokens=2, rank=False)
    arms = [Arm("unsteered"), Arm("steered to shouting", "shouting", STRONG)]
    pools = draw(gpt2, tokenizer, {"shouting": [Shouting()]}, tmp_path, plan=plan, arms=arms)
    assert [text.scores for text in pools.samples.values()] == [{}, {}]
    ranked = PoolPlan(PROMPTS[:1], samples=1, new_tokens=2)
    (tmp_path / "samples.jsonl").unlink()
    with pytest.raises(InputError, match="'Shouting' has no method text_loss"):
        draw(gpt2, tokenizer, {"shouting": [Shouting()]}, tmp_path, plan=ranked, arms=arms)


def test_the_groups_hold_all_prompts_in_order_and_no_more_texts_than_asked_for():
    for samples, size, expected in ((2, 4, [2, 1]), (3, 4, [1, 1, 1]), (1, 100, [3]), (5, 1, [1, 1, 1])):
        groups = PoolPlan(PROMPTS, samples=samples, pools=2, batch_size=size).groups()
        for pool in range(2):
            own = [group.prompts for group in groups if group.pool == pool]
            assert [len(prompts) for prompts in own] == expected
            assert [prompt for prompts in own for prompt in prompts] == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompts": ()}, "prompts is empty"),
        ({"samples": 0}, "samples must be a whole number of at least 1; got 0"),
        ({"new_tokens": 2.5}, "new_tokens must be a whole number of at least 1; got 2.5"),
        ({"pools": 0}, "pools must be a whole number of at least 1; got 0"),
        ({"new_tokens": 0}, "new_tokens must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        PoolPlan(**{"prompts": PROMPTS, **values})
