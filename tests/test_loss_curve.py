"""The script that sets runs of training beside the embedded model's first one."""

import runpy
import sys
from pathlib import Path

import pytest

from pplm.pretraining.training_folder import StepReport, TrainingFolder

SCRIPT = Path(__file__).parent.parent / "scripts" / "loss_curve.py"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the script as from the shell, and return exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as left:
            code = left.code or 0
        return code, *capsys.readouterr()

    return run


def run_of(folder, losses, tokens=11_000):
    run = TrainingFolder(folder)
    run.path.mkdir(parents=True)
    for step, loss in enumerate(losses, start=1):
        run.append(StepReport(step, step * tokens, float(step), loss, 1.0, 0.0))


def test_a_run_is_shown_where_the_card_has_numbers_and_at_its_end(call, tmp_path):
    run_of(tmp_path / "ten", [8.0] * 30 + [6.0] * 50 + [5.0] * 25)
    code, out, _ = call(tmp_path / "ten", "--plot", tmp_path / "loss.png")
    assert code == 0
    assert out.splitlines() == [
        "| tokens    | gpt2-mini, first run | ten  |",
        "| ---       | ---                  | ---  |",
        "| 330,000   | 6.33                 | 8.00 |",
        "| 1,060,000 | 5.67                 | 5.68 |",  # 1,056,000 tokens: 34 steps of 6 and 16 of 5
        "| 1,155,000 |                      | 5.50 |",
    ]
    assert (tmp_path / "loss.png").stat().st_size > 5000


def test_a_folder_without_a_run_is_one_line_and_exit_code_2(call, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = call(tmp_path / "empty")
    assert (code, out) == (2, "")
    assert err.strip().endswith("holds no training run; name the --output of pplm train-base")
    assert len(err.splitlines()) == 1
