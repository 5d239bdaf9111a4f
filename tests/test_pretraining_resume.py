"""Runs that were interrupted, killed or damaged: resumed, they give what an uninterrupted run gives."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_pretraining import CrashError, assert_same_weights, curve, stop_after, train

from pplm import InputError
from pplm.files.atomic import atomic_file
from pplm.pretraining import checkpoint
from pplm.pretraining.optimizers import Optimizers

ROOT = Path(__file__).resolve().parent.parent
KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from tiny_pretraining import train
def on_step(report):
    if report.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
train(sys.argv[1], sys.argv[2], on_step=on_step)
"""


@pytest.mark.slow
def test_a_run_killed_with_kill_9_goes_on_as_if_nothing_had_happened(corpus, finished, tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(  # noqa: S603
        [sys.executable, "-c", KILLED, corpus, tmp_path / "run"], env=environment, capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "run" / "training"
    assert len((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 8
    assert not (tmp_path / "run" / "model.safetensors").exists()
    steps = []
    report = train(corpus, tmp_path / "run", resume=True, on_step=steps.append)
    assert [step.step for step in steps] == [8, 9, 10, 11, 12]  # the last checkpoint was that of step 7
    assert curve(report) == curve(finished[1])
    assert report.validation == finished[1].validation
    assert_same_weights(tmp_path / "run", finished[0])


@pytest.mark.parametrize("minutes", [0, 1000])
def test_a_crash_with_or_without_a_checkpoint_changes_nothing(corpus, finished, tmp_path, minutes):
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", changes={"checkpoint_minutes": minutes}, on_step=stop_after(5))
    assert (tmp_path / "run" / "training" / "checkpoint.safetensors").exists() == (minutes == 0)
    report = train(corpus, tmp_path / "run", changes={"checkpoint_minutes": minutes}, resume=True)
    assert curve(report) == curve(finished[1])
    assert_same_weights(tmp_path / "run", finished[0])


def test_an_interrupt_saves_the_last_step(corpus, finished, tmp_path):
    rare = {"checkpoint_minutes": 1000}
    with pytest.raises(KeyboardInterrupt):
        train(corpus, tmp_path / "run", changes=rare, on_step=stop_after(5, KeyboardInterrupt))
    steps = []
    report = train(corpus, tmp_path / "run", changes=rare, resume=True, on_step=steps.append)
    assert steps[0].step == 6
    assert curve(report) == curve(finished[1])


def test_an_interrupt_amid_an_update_waits_for_its_end(corpus, finished, tmp_path, monkeypatch):
    step, handler = Optimizers.step, signal.getsignal(signal.SIGINT)

    def interrupted(self, share):
        signal.raise_signal(signal.SIGINT)
        step(self, share)

    rare = {"checkpoint_minutes": 1000}
    with monkeypatch.context() as patch:
        patch.setattr(Optimizers, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(corpus, tmp_path / "run", changes=rare)
    assert signal.getsignal(signal.SIGINT) is handler
    steps = []
    assert curve(train(corpus, tmp_path / "run", changes=rare, resume=True, on_step=steps.append)) == curve(finished[1])
    assert steps[0].step == 2


def test_a_checkpoint_that_is_interrupted_leaves_the_one_before(corpus, finished, tmp_path, monkeypatch):
    save = checkpoint.save_file
    written = []

    def full_disk(tensors, path, metadata):
        written.append(path)
        if len(written) == 5:
            Path(path).write_bytes(b"half of a file")
            raise OSError("No space left on device")
        save(tensors, path, metadata=metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full_disk)
        with pytest.raises(InputError, match="cannot be written: No space left on device; make room"):
            train(corpus, tmp_path / "run")
    steps = []
    assert curve(train(corpus, tmp_path / "run", resume=True, on_step=steps.append)) == curve(finished[1])
    assert steps[0].step == 5


def test_a_log_whose_last_line_was_cut_off_is_mended(corpus, finished, tmp_path):
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", on_step=stop_after(5))
    with (tmp_path / "run" / "training" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "tok')
    assert curve(train(corpus, tmp_path / "run", resume=True)) == curve(finished[1])


def test_a_resumed_run_needs_neither_its_text_nor_the_models_it_began_with(corpus, finished, tmp_path):
    source, donor = shutil.copy(corpus, tmp_path / "stories.txt"), tmp_path / "donor"
    shutil.copytree(finished[0], donor, ignore=shutil.ignore_patterns("training"))
    borrowing = {"embeddings_from": str(donor), "tokenizer": str(donor)}
    whole = train(source, tmp_path / "whole", **borrowing)
    assert whole.steps[0].loss != finished[1].steps[0].loss
    with pytest.raises(CrashError):
        train(source, tmp_path / "run", on_step=stop_after(5), **borrowing)
    shutil.rmtree(donor)
    source.unlink()
    report = train(source, tmp_path / "run", resume=True, **borrowing)
    assert curve(report) == curve(whole)


def test_resuming_a_finished_run_gives_the_same_model_again(corpus, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "tiny")
    report = train(corpus, tmp_path / "tiny", resume=True, command="pplm train-base --resume")
    assert curve(report) == curve(finished[1])
    assert_same_weights(tmp_path / "tiny", finished[0])
    cards = [(folder / "MODEL_CARD.md").read_text(encoding="utf-8") for folder in (tmp_path / "tiny", finished[0])]
    assert cards[0] == cards[1]  # with the command that began the run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"changes": {"seed": 3}}, "seed was 0 when this run began; got 3"),
        ({"changes": {"steps": 20}}, "steps was 12 when this run began; got 20"),
        ({"split": "test"}, "split was 'train' when this run began; got 'test'"),
        ({"init": "gpt2-mini"}, "init was None when this run began"),
    ],
)
def test_resuming_with_other_settings_is_refused(corpus, finished, changes, message):
    with pytest.raises(InputError, match=message):
        train(corpus, finished[0], resume=True, **changes)


def test_memory_and_checkpoints_may_change_on_the_way(corpus, finished, tmp_path):
    with pytest.raises(CrashError):
        train(corpus, tmp_path / "run", on_step=stop_after(5))
    report = train(corpus, tmp_path / "run", resume=True, changes={"micro_batch_tokens": 32, "checkpoint_minutes": 1})
    torch.testing.assert_close([s.loss for s in report.steps], [s.loss for s in finished[1].steps], rtol=1e-4, atol=0)


def test_a_damaged_checkpoint_is_told(corpus, finished, tmp_path):
    for damage in (b"broken", None):
        shutil.copytree(finished[0], tmp_path / "run", dirs_exist_ok=True)
        path = tmp_path / "run" / "training" / "checkpoint.safetensors"
        if damage is None:
            shutil.copy(finished[0] / "model.safetensors", path)
        else:
            path.write_bytes(damage)
        with pytest.raises(InputError, match="cannot be resumed"):
            train(corpus, tmp_path / "run", resume=True)


def test_a_pause_does_not_use_up_a_budget_of_minutes(corpus, tmp_path, monkeypatch):
    seconds = [0.0]

    def clock():
        seconds[0] += 0.25
        return seconds[0]

    def sleep(report):
        seconds[0] += 10_000 * (report.step == 30)

    monkeypatch.setattr("pplm.pretraining.loop.time", SimpleNamespace(perf_counter=clock))
    budget = {"steps": None, "minutes": 0.2, "checkpoint_minutes": 1}  # 12 s: 48 steps of a quarter of a second
    report = train(corpus, tmp_path / "run", changes=budget, on_step=sleep)
    assert 35 < len(report.steps) <= 48
    assert report.steps[-1].lr_share < 0.1
    assert "budget 0.2 minutes; took" in (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_run_stopped_while_it_read_its_texts_can_be_started_again(corpus, finished, tmp_path):
    shutil.copytree(finished[0] / "training" / "tokenizer", tmp_path / "run" / "training" / "tokenizer")
    (tmp_path / "run" / "training" / "training.npy").write_bytes(b"half")
    request = atomic_file(tmp_path / "run" / "training" / "request.json")
    request.__enter__().write_text("half", encoding="utf-8")  # killed while it wrote the request: its folder stays
    with pytest.raises(InputError, match="holds no run to resume"):
        train(corpus, tmp_path / "run", resume=True)
    assert curve(train(corpus, tmp_path / "run")) == curve(finished[1])
