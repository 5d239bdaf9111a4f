"""Scripts that measure: they run, and their output has what they promise."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attribute_models import Discriminator, TrainingConfig, read_labelled, train_discriminator

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="needs a checkout")]


def run(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "scripts" / script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def test_the_gpu_check_runs_on_a_processor_and_leaves_out_what_there_is_no_time_for(tmp_path):
    output = tmp_path / "gpu.json"
    done = run("gpu_check.py", "--device", "cpu", "--models", "gpt2", "--samples", 1, "--new-tokens", 2, "--output",
               output, "--limit", 120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["machine"]["device"] == "cpu"
    assert found["tests"]["exit_code"] == 0
    assert found["tests"]["tests"] > 100
    assert found["tests"]["failed"] == {}
    parts = {name: part for name, part in found.items() if name.startswith(("dtypes", "benchmark"))}
    assert all(isinstance(rows, list) for rows in parts.values()), parts
    assert len(parts) + len(found["left_out"]) == 8
    for name in parts.keys() - found["left_out"]:  # how many there is time for depends on the machine
        if name.startswith("dtypes"):
            assert {row["dtype"] for row in parts[name]} == {"bfloat16", "float16"}


@pytest.mark.alone
def test_the_parts_of_a_token_s_time_add_up():
    done = run("token_time.py", "--samples", 1, "--new-tokens", 2)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    cells = {row[0]: row[1:] for row in rows}
    for column in range(4):
        parts = [
            float(cells[name][column]) for name in cells if name not in ("", "---", "together", "unsteered tokens")
        ]
        assert sum(parts) == pytest.approx(float(cells["together"][column]), abs=0.5)
        assert float(cells["language-model head"][column]) > 0
    assert float(cells["lower layers"][0]) > float(cells["upper layers"][0]) > 0
    assert float(cells["lower layers"][1]) == 0


def test_the_cost_of_watching_is_measured_for_each_way():
    done = run("trace_cost.py", "--repeats", 1, "--max-new-tokens", 3)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    assert [row[1] for row in rows[2:]] == ["nobody", "on_token", "trace", "both"] * 3
    assert all(float(row[2]) > 0 for row in rows[2:])
    assert [row[4] for row in rows[2::4]] == ["+0%"] * 3


def test_both_ways_to_multiply_are_measured():
    done = run("products_table.py", "--rows", "2", "--shapes", "64x2048", "--repeats", 2)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if "64x2048" in line]) == 1


def test_class_means_are_added_to_a_head_as_training_would_have_stored_them(tmp_path, embedded):
    path = ROOT / "data/labelled/praise_complaint.tsv"
    data = read_labelled(path)
    for name, texts in (("without", 0), ("with", 20)):
        config = TrainingConfig(class_mean_texts=texts)
        train_discriminator(*embedded, data, config=config, cache_dir=tmp_path / "cache").save(tmp_path / name)
    done = run("add_class_means.py", path, tmp_path / "without", "--texts", 20)
    assert done.returncode == 0, done.stderr
    added, stored = (Discriminator.load(tmp_path / name, "praise") for name in ("without", "with"))
    torch.testing.assert_close(added.class_means, stored.class_means)
    assert added.card == stored.card
    (tmp_path / "short.tsv").write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-9]), encoding="utf-8")
    done = run("add_class_means.py", tmp_path / "short.tsv", tmp_path / "without")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"Error: {tmp_path / 'short.tsv'} is not the data that")


def test_the_methods_frontier_compares_them_and_goes_on_where_it_stopped(tmp_path, gpt2, tokenizer):
    for part in (gpt2, tokenizer):
        part.save_pretrained(tmp_path / "judge")
    arguments = ["--judge", tmp_path / "judge", "--pools", 1, "--new-tokens", 4, "--output", tmp_path / "out"]
    first = run("methods_frontier.py", "--methods", "fast,dial,WD", *arguments)
    assert first.returncode == 0, first.stderr
    report = (tmp_path / "out" / "frontier.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in report.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["B", *(f"fast {x}" for x in (0.8, 1, 1.2, 1.6, 2)), *(f"dial {x}" for x in (0.3, 0.5, 0.7)),
                        *(f"WD {x}" for x in (2, 3, 5))]  # fmt: skip
    assert report.count("at the same texts with a held-out word as fast") == 3
    assert len(re.findall(r"repeats .*%, fast .*% \(difference [+-].* to [+-].* points\)\.", report)) == 4
    assert report.count("the dial at the same texts with a held-out word as the preset fast itself: ") == 1
    assert (tmp_path / "out" / "frontier.png").is_file()
    lines = (tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8")
    assert run("methods_frontier.py", "--methods", "fast,dial,WD", *arguments).returncode == 0
    assert (tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8") == lines


def test_a_server_under_load_gives_every_client_its_own_text():
    done = run("serve_load.py", "--clients", 12, "--requests", 2, "--new-tokens", 10)
    assert done.returncode == 0, done.stderr
    row = [cell.strip() for cell in done.stdout.splitlines()[-1].strip("|").split("|")]
    assert row[:2] == ["12 x 2", "24 of 24"]
    median, percentile, tokens, together = map(float, row[2:])
    assert 0 < median <= percentile
    assert tokens > 0
    assert together > 1.5


def test_the_pictures_of_concepts_are_drawn_and_show_what_the_page_says(tmp_path):
    done = run("concept_pictures.py", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dial.png",
        "mean.png",
        "moved.png",
        "several.png",
        "token.png",
    ]
    lines = done.stdout.splitlines()
    stars = [float(line.split(" stars ")[1].split("%")[0]) for line in lines[:3]]
    unsteered, steered, mean = stars
    assert unsteered < mean < steered
    budgets = [0.024, 0.15, 0.384]
    largest = [float(line.split("largest ")[1].split()[0]) for line in lines[3:]]
    assert all(spent <= budget + 1e-4 for spent, budget in zip(largest, budgets, strict=True))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["methods_frontier.py", "--judge", "x", "--methods", "fast,X", "--output", "{tmp}"],
            "--methods must be some of",
        ),
        (
            ["preset_frontier.py", "--judge", "x", "--paper-steps", "9", "--output", "{tmp}"],
            "--paper-steps must include",
        ),
        (["sentiment_table.py", "data.tsv", "--labels", "good"], "--labels must be two"),
        (["soak.py", "generate", "--texts", "200"], "200 is not in the range x>=201"),
        (["soak.py", "generate", "--batch", "201"], "201 is not in the range 1<=x<=200"),
    ],
)
def test_a_script_refuses_wrong_input_in_a_line_that_names_the_option(command, message, tmp_path):
    done = run(*(str(part).format(tmp=tmp_path) for part in command))
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_the_picture_of_a_comparison_of_one_attribute_is_drawn_again(tmp_path):
    lines = (ROOT / "docs/evaluation/topics/metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "metrics.csv").write_text("".join(line for line in lines if line.split(",")[1] in ("attribute", "all")))
    done = run("redraw_pictures.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "methods.png")]


@pytest.mark.parametrize("kind", ["topics", "sweep-sentiment", "dial-smollm2-topics"])
def test_pictures_are_drawn_again_from_a_report_s_numbers(kind, tmp_path):
    folder = tmp_path / kind
    shutil.copytree(ROOT / "docs" / "evaluation" / kind, folder)
    pictures = sorted(folder.glob("*.png"))
    sizes = {path: path.stat().st_size for path in pictures}
    for path in pictures:
        path.write_bytes(b"")
    done = run("redraw_pictures.py", folder)
    assert done.returncode == 0, done.stderr
    assert sorted(Path(line) for line in done.stdout.splitlines()) == pictures
    assert all(path.stat().st_size == pytest.approx(size, rel=0.1) for path, size in sizes.items())
