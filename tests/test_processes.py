"""Several real processes through `accelerate launch` give what one gives."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evaluation_runs import lines_of, write_prompts
from launched import ROOT, TWO, start
from tiny_pretraining import SHAPE, settings

from attribute_models import Discriminator
from pplm import InputError
from pplm.models.processes import Processes
from pplm.pretraining.training_folder import TrainingFolder


def test_alone_everything_is_one_s_own():
    one = Processes()
    assert (one.count, one.index, one.main) == (1, 0, True)
    assert one.own([1, 2, 3]) == one.join([1, 2, 3]) == [1, 2, 3]
    assert one.share("text") == "text"
    one.wait()


@pytest.mark.slow
def test_two_processes_share_and_join_and_leave(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import atexit\n"
        "import torch\n"
        "from pplm.models.processes import Processes\n"
        "atexit.register(lambda: p.main and print('still a member:', torch.distributed.is_initialized()))\n"
        "p = Processes.of_launch(cpu=True)\n"
        "joined, shared = p.join(p.own('abcde')), p.share(p.index)\n"
        "p.main and print(p.count, joined, shared)\n"
    )
    lines = start(TWO, program).splitlines()
    assert lines[0] == "2 ['a', 'c', 'e', 'b', 'd'] 0"
    assert lines[-1] == "still a member: False"  # who is, may be aborted while Python shuts down


@pytest.mark.slow
def test_two_processes_generate_the_same_texts_as_one(tmp_path):
    prompts = ["The lake", "A city by the sea", "Once", "In brief", "To conclude"]
    options = ["--bag", "space", "--seed", 0, "--num-samples", 2, "--max-new-tokens", 6, "--max-batch-size", 4]
    for launch, module in (([], ["-m", "pplm"]), (TWO, ["-m", "pplm"])):
        path = tmp_path / f"{len(launch)}.jsonl"
        printed = start(launch, *module, "generate", *prompts, *options, "--device", "cpu", "--output", path)
        assert printed.count("[steered") == 10
    one, two = (path.read_text() for path in sorted(tmp_path.glob("*.jsonl")))
    assert one == two
    assert [json.loads(line)["prompt_index"] for line in one.splitlines()] == sorted([*range(5)] * 3)


def test_no_library_function_joins_processes(gpt2, tokenizer, head, monkeypatch):
    import accelerate

    from attribute_models import classify_texts

    monkeypatch.setattr(accelerate, "PartialState", lambda **_: pytest.fail("joined the processes of a launch"))
    monkeypatch.setattr(accelerate, "Accelerator", lambda **_: pytest.fail("joined the processes of a launch"))
    assert classify_texts(gpt2, tokenizer, head, ["The sea"]).shape == (1, 3)
    one = Processes()
    one.wait()
    one.on_main(one.wait)
    assert not torch.distributed.is_initialized()


def test_only_the_command_line_joins_the_processes_of_a_launch():
    for path in [*ROOT.glob("pplm/**/*.py"), *ROOT.glob("attribute_models/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        joins = "of_launch(" in text or "Accelerator(" in text or "PartialState(cpu" in text
        assert joins == (path.name in ("processes.py", "options.py")), path


def test_what_the_main_process_finds_wrong_is_raised():
    def refuse():
        raise InputError("wrong")

    with pytest.raises(InputError, match="wrong"):
        Processes().on_main(refuse)


@pytest.mark.slow
def test_a_held_out_head_judges_on_one_of_two_processes(tmp_path):
    weight = torch.randn(2, 320, generator=torch.Generator().manual_seed(0)) / 320**0.5
    Discriminator.from_weights(weight, torch.zeros(2), ["positive", "negative"]).save(tmp_path / "other")
    (tmp_path / "prompts.txt").write_text("The lake\nOnce\n")
    options = ["--attributes", "sentiment", "--methods", "B,BC", "--new-tokens", 4, "--device", "cpu"]
    options += ["--prompts", tmp_path / "prompts.txt", "--held-out-head", tmp_path / "other", "--num-iterations", 1]
    printed = []
    for name, launch in (("one", []), ("two", TWO)):
        printed.append(start(launch, "-m", "pplm", "evaluate", *options, "--output", tmp_path / name))
    assert "held-out head" in printed[0]
    assert printed[1] == printed[0]


@pytest.mark.slow
def test_what_the_main_process_finds_wrong_is_raised_by_all(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from pplm.errors import InputError\n"
        "from pplm.models.processes import Processes\n"
        "p = Processes.of_launch(cpu=True)\n"
        "def refuse():\n"
        "    raise InputError('wrong')\n"
        "try:\n"
        "    p.on_main(refuse)\n"
        "except InputError as error:\n"
        "    found = p.join([str(error)])\n"
        "    p.main and print(found)\n"
    )
    assert start(TWO, program).splitlines()[0] == "['wrong', 'wrong']"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(corpus, finished, tmp_path):
    flags = {name.replace("_", "-"): value for name, value in {**vars(settings()), **vars(SHAPE)}.items()}
    options = [part for name, value in flags.items() if value is not None for part in (f"--{name}", str(value))]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*extra):
        command = [sys.executable, *launch, "--main_process_port", free_port(), "-m", "pplm", "train-base"]
        return subprocess.run(  # noqa: S603
            [*map(str, command), str(corpus), "--output", str(tmp_path / "two"), *options, *extra],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("written to")]) == 1
    found, wanted = TrainingFolder(tmp_path / "two").log(), finished[1].steps
    assert [s.tokens for s in found] == [s.tokens for s in wanted]
    torch.testing.assert_close([s.loss for s in found], [s.loss for s in wanted], rtol=1e-3, atol=0)
    again = run()
    assert again.returncode != 0
    assert again.stderr.count("Error: output") == 1


@pytest.fixture
def prompts(tmp_path):
    return write_prompts(tmp_path)


@pytest.mark.slow
def test_two_processes_give_the_same_evaluation_as_one_and_print_it_once(tmp_path, prompts):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    printed, texts = [], []
    for name, launch in (("one", []), ("two", TWO)):
        command = [
            *(sys.executable, *launch, "-m", "pplm", "evaluate", "--attributes", "space,legal"),
            *(
                "--prompts",
                prompts,
                "--samples",
                3,
                "--pools",
                2,
                "--new-tokens",
                8,
                "--max-batch-size",
                3,
                "--device",
                "cpu",
            ),
            *("--output", tmp_path / name),
        ]
        done = subprocess.run(  # noqa: S603
            list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
        texts.append([{**line, "seconds": 0} for line in lines_of(Path(tmp_path / name))])
    assert texts[0] == texts[1]
    assert len(texts[0]) == 3 * 2 * 2 * 3
    assert printed[0] == printed[1]
    report = (tmp_path / "two" / "report.md").read_text()
    assert '"processes": 2' in report
    assert not list((tmp_path / "two").glob("*.part*"))
