"""On an accelerator nothing mixes devices, and a token waits for the device once: checked with a pretend one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).resolve().parent
FAMILIES = ("gpt2", "llama")
TOKEN_RUNS = (
    "unsteered", "bag", "head", "avoided bag", "avoided head", "mixture", "half precision", "greedy",
    "global generator", "streamed", "one of two", "sparse", "skips", "conversation",
)  # fmt: skip
OTHER_RUNS = (
    "samples that finish", "rerank", "rerank answers", "seeds", "report", "judge", "judge's own model", "classify",
)  # fmt: skip
BESIDE_THE_CHOICE = {
    "global generator": 1,  # torch's own check of the probabilities
    "skips": 1,  # who is to be steered decides what is computed next
}
"""Waits of a token beside the one for the chosen tokens."""


@pytest.fixture(scope="module")
def report():
    """What `pretend_runs.py` prints, from a process of its own."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this version of torch has no devices made in Python")
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "pretend_runs.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_pretend_device_refuses_and_counts_what_a_real_one_would(report):
    rules = report["rules"]
    assert all(error.startswith("MixedDevicesError") for error in rules["refused"])
    assert rules["devices"] == ["pretend", "pretend", "cpu", "pretend"]
    assert rules["values"] == [[0.0, 2.0, 2.0], 5.5]
    assert rules["waits"] == {
        "arithmetic": [],
        "a number": ["item"],
        "a list": ["to the host"],
        "a condition": ["item"],
        "there": ["to the device"],
        "back": ["to the host"],
        "numbers from Python": ["to the device"],
        "indices from the host": ["index to the device"],
        "bool indices": ["bool index"],
    }


@pytest.mark.parametrize("name", [*TOKEN_RUNS, *OTHER_RUNS])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_mixes_devices_and_results_are_those_of_the_cpu(report, family, name):
    assert report[family][name]["error"] is None
    assert report[family][name]["same"]


@pytest.mark.parametrize("name", TOKEN_RUNS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_waits_for_the_device_only_when_it_is_chosen(report, family, name):
    waits = {key: count for key, count in report[family][name]["waits"].items() if " at transformers/" not in key}
    assert sum(waits.values()) == 1 + BESIDE_THE_CHOICE.get(name, 0), waits


def test_a_model_over_two_devices_is_refused_by_name_before_it_is_read(report):
    found = report["over two devices"]
    assert found["error"].startswith("InputError: LlamaForCausalLM lies on several devices (cpu, pretend:0), which")
    assert found["reads"] == 0


def test_every_run_is_looked_at(report):
    assert all(set(report[family]) == {*TOKEN_RUNS, *OTHER_RUNS} for family in FAMILIES)
