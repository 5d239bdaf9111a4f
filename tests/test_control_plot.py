"""The script that shows the controller's step response."""

import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "control_plot.py"


def test_the_table_shows_no_overshoot_and_no_windup_and_the_figure_is_written(tmp_path, monkeypatch, capsys):
    plot = tmp_path / "control.png"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--plot", str(plot)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in capsys.readouterr().out.splitlines()]
    rows = {row[0]: row[1:] for row in cells[2:]}
    for gain in ("0.7", "1", "2"):
        _, settled, beyond, _ = rows[f"plant gain {gain}"]
        assert int(settled) < 20
        assert beyond == "0.0%"
    assert int(rows["velocity form (pplm)"][1]) < 10 < 40 < int(rows["summed errors"][1])
    assert plot.read_bytes().startswith(b"\x89PNG")
