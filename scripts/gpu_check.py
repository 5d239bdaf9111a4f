"""Check pplm on a GPU: agreement with the published algorithm, batches, number formats and speed, in one JSON file.

python scripts/gpu_check.py --device cuda --output gpu.json

Needs a checkout and the packages of the extra `dev`, but no network. After `--limit` seconds no further part begins;
the file names those that are left out. On a CPU, run the same check with `--device cpu --samples 1 --new-tokens 2`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click
import torch

from attribute_models import BagOfWords
from pplm import SteeringConfig, load_model, steering_presets
from pplm.benchmark import BenchmarkConfig, describe_machine, dtype_agreement, random_model, run_benchmark
from pplm.cli import run_command
from pplm.cli.benchmark import ATTRIBUTES
from pplm.cli.options import comma_list
from pplm.cli.outputs import FILE, check_outputs, overwrite_option, write_json
from pplm.models.loading import find_device
from pplm.models.resources import data_path
from pplm.text.split import decoder_layers

TESTS = ("test_parity.py", "test_batches.py", "test_layers.py")
PROMPTS = ("The lake", "In the north of the country", "An essential part of", "The weather")
DTYPES = ("float32", "bfloat16")
_FAILED = ("failure", "error")


@dataclass
class Report:
    """The results so far, written after every part, so that an interrupted run leaves what it has found."""

    path: Path
    machine: dict[str, Any]
    limit: float
    found: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def add(self, name: str, work: Callable[[], Any]) -> None:
        """Do one part of the check unless the time is up; an error becomes its result."""
        if time.monotonic() - self.start > self.limit:
            self.left_out.append(name)
        else:
            click.echo(f"{time.monotonic() - self.start:4.0f} s  {name}", err=True)
            try:
                self.found[name] = work()
            except Exception as error:  # noqa: BLE001 - whatever a new device does, the other parts go on
                self.found[name] = {"error": f"{type(error).__name__}: {error}"}
        seconds = round(time.monotonic() - self.start, 1)
        content = {"machine": self.machine, "seconds": seconds, "left_out": self.left_out, **self.found}
        write_json("--output", self.path, content)


@click.command()
@click.option("--device", default="cuda", show_default=True, help="Where to compute: cuda, cuda:1, cpu, ...")
@click.option("--models", default="gpt2,gpt2-medium", show_default=True, callback=comma_list(str), help="GPT-2 sizes.")
@click.option("--samples", default="1,16,64", show_default=True, callback=comma_list(int), help="Texts at once.")
@click.option("--new-tokens", default=30, show_default=True, help="Length of the new texts, in tokens.")
@click.option("--limit", default=540.0, show_default=True, help="Seconds after which no further part begins.")
@click.option("--output", type=FILE, required=True, help="The JSON file to write.")
@overwrite_option
def gpu_check(
    device: str, models: Sequence[str], samples: Sequence[int], new_tokens: int, limit: float, output: Path,
    overwrite: bool,
) -> None:  # fmt: skip
    """Run the check and write what it finds."""
    check_outputs({"--output": output}, overwrite=overwrite)
    place = find_device(device)
    report = Report(output, describe_machine(torch.device(place)), limit)
    report.add("tests", partial(_tests, device))
    for preset in ("paper", "fast"):
        report.add(f"dtypes {preset}", partial(_dtypes, device, preset))
    for name, preset, compiled in product(models, ("fast", "paper"), (False, True)):
        if preset == "paper" and compiled:
            continue
        for attribute in ATTRIBUTES:
            # The preset paper with a head takes 42 passes per token.
            tokens = max(1, new_tokens // 3) if (preset, attribute) == ("paper", "discriminator") else new_tokens
            config = BenchmarkConfig(
                attributes=[attribute], samples=samples, new_tokens=[tokens], dtypes=DTYPES, repeats=1, preset=preset
            )
            title = f"benchmark {name}, {attribute}, {preset}{', compiled' if compiled else ''}"
            report.add(
                title, lambda name=name, config=config, compiled=compiled: _speed(name, config, device, compiled)
            )
    click.echo(f"written: {output}", err=True)


def _tests(device: str) -> dict[str, Any]:
    """Run the tests of parity, batches and layers on the device."""
    folder = Path(__file__).resolve().parent.parent / "tests"
    with tempfile.TemporaryDirectory() as place:
        results = Path(place, "results.xml")
        options = ["-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
        command = [sys.executable, "-m", "pytest", *options, *(str(folder / name) for name in TESTS)]
        environment = {**os.environ, "PPLM_TEST_DEVICE": device}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=300)  # noqa: S603
        if not results.is_file():
            return {"exit_code": done.returncode, "output": (done.stdout + done.stderr)[-2000:]}
        cases = list(ElementTree.parse(results).iter("testcase"))  # noqa: S314 - written by pytest
    failed = {case.attrib["name"]: part.attrib["message"] for case in cases for part in case if part.tag in _FAILED}
    return {"exit_code": done.returncode, "tests": len(cases), "failed": failed}


def _dtypes(device: str, preset: Any) -> list[dict[str, Any]]:
    """Compare bfloat16 and float16 with float32 on the embedded model."""
    model, tokenizer = load_model(data_path("gpt2-mini"), device=device)
    bag = BagOfWords.load("space", tokenizer)
    steering = SteeringConfig.for_attributes([bag], presets=steering_presets(model), preset=preset)
    return [asdict(row) for row in dtype_agreement(model, tokenizer, PROMPTS, [bag], steering=steering)]


def _speed(name: str, config: BenchmarkConfig, device: str, compiled: bool) -> list[dict[str, Any]]:
    model = random_model(f"random:{name}", device=device)
    with _compiled(model) if compiled else _as_it_is():
        return [asdict(row) for row in run_benchmark(model, ATTRIBUTES, config)]


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _compiled(model: Any) -> Iterator[None]:
    """Compile the parts whose shapes do not grow with the text, as CUDA graphs: the blocks' MLPs and the LM head."""
    parts = [block.mlp for block in decoder_layers(model)[1]] + [model.get_output_embeddings()]
    for part in parts:
        part.compile(mode="reduce-overhead")
    try:
        yield
    finally:
        for part in parts:
            part._compiled_call_impl = None


if __name__ == "__main__":
    run_command(gpu_check)
