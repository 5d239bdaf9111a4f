"""Many clients at once: seconds per request and tokens per second of `pplm serve`, the figures of docs/serve.md.

Starts a server, sends it requests from many of OpenAI's clients at once, and compares each answer with the text that
`pplm.generate` writes alone for the same prompt and seed. Exits with 1 if one differs.

python scripts/serve_load.py
"""

from __future__ import annotations

import asyncio
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import torch

from pplm.benchmark import describe_machine
from pplm.cli import run_command
from pplm.files.tables import markdown_table

OPENINGS = ("The lake", "The road", "My sister", "The old house", "A teacher", "The market", "Her letter", "The river",
            "Our team", "The garden")  # fmt: skip
ENDINGS = ("is", "was", "will be", "has been", "and", "which", "near the hill", "in the morning", "of the town",
           "at last", "once again", "on the other side", "that they saw", "without a name", "after the rain",
           "under the bridge", "for a long time", "in those days", "as we know it", "with its")  # fmt: skip
STEERING = {"bags": ["space"], "strength": 0.5}
_SHORTER = 10
"""Lengths take this many different values, one token apart."""


@dataclass(frozen=True)
class Answered:
    """One answer: the number of its request, its text, its tokens and the seconds that it took."""

    number: int
    text: str
    tokens: int
    seconds: float


@click.command()
@click.option("--clients", default=50, show_default=True, type=click.IntRange(1), help="Clients at once.")
@click.option("--requests", default=4, show_default=True, type=click.IntRange(1), help="Of each client, in sequence.")
@click.option("--new-tokens", default=40, show_default=True, type=click.IntRange(_SHORTER),
              help="Length of the longest text.")  # fmt: skip
@click.option("--model", default="gpt2-mini", show_default=True, help="As `pplm serve` takes it.")
def serve_load(clients: int, requests: int, new_tokens: int, model: str) -> None:
    """Print a Markdown table of a server's times under load."""
    with _server(model, clients) as address:
        _once(address, model)  # what the first text loads is no part of the measurement
        begun = time.perf_counter()
        answers = asyncio.run(_all(address, model, clients, requests, new_tokens))
        seconds = time.perf_counter() - begun
        texts_at_once = _texts_at_once(address)
    click.echo(", ".join(f"{name} {value}" for name, value in describe_machine(torch.device("cpu")).items()) + "\n")
    took = [answer.seconds for answer in answers]
    tokens = sum(answer.tokens for answer in answers)
    different = _different(answers, model, new_tokens)
    row = [f"{clients} x {requests}", f"{len(answers) - len(different)} of {len(answers)}",
           f"{statistics.median(took):.2f}", f"{_percentile(took, 0.95):.2f}", f"{tokens / seconds:.0f}",
           f"{texts_at_once:.1f}"]  # fmt: skip
    header = ["clients x requests", "equal to the single run", "median (s)", "95th percentile (s)", "tokens per second",
              "texts per batch"]  # fmt: skip
    click.echo("\n".join(markdown_table(header, [row])))
    if different:
        click.echo(f"different: requests {', '.join(map(str, different))}", err=True)
        sys.exit(1)


def _prompt(number: int) -> str:
    return f"{OPENINGS[number % len(OPENINGS)]} {ENDINGS[number // len(OPENINGS) % len(ENDINGS)]}"


def _length(number: int, new_tokens: int) -> int:
    return new_tokens - number % _SHORTER


@contextmanager
def _server(model: str, clients: int) -> Iterator[str]:
    """Run a server on a free port, yield its address, and end it as its operator would."""
    command = [sys.executable, "-m", "pplm", "serve", "--model", model, "--port", "0", "--device", "cpu",
               "--max-waiting", str(clients), "--max-seconds", "600"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        said = []
        for line in iter(process.stderr.readline, ""):
            said.append(line)
            if found := re.search(r"is served at (http://\S+)/v1", line):
                break
        else:
            raise click.ClickException(f"the server did not start: {''.join(said).strip()}")
        try:
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


async def _all(address: str, model: str, clients: int, requests: int, new_tokens: int) -> list[Answered]:
    """Send the requests: all clients at once, each one request after the other."""
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=clients)
    async with openai.AsyncOpenAI(
        base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=600,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits),
    ) as client:  # fmt: skip

        async def ask(first: int) -> list[Answered]:
            own = []
            for number in range(first, first + requests):
                begun = time.perf_counter()
                reply = await client.completions.create(
                    model=model, prompt=_prompt(number), seed=number, max_tokens=_length(number, new_tokens),
                    extra_body={"steering": STEERING},
                )  # fmt: skip
                seconds = time.perf_counter() - begun
                own.append(Answered(number, reply.choices[0].text, reply.usage.completion_tokens, seconds))
            return own

        found = await asyncio.gather(*(ask(number * requests) for number in range(clients)))
    return [answer for own in found for answer in own]


def _once(address: str, model: str) -> None:
    import openai

    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=600) as client:
        client.completions.create(model=model, prompt="The lake", max_tokens=2, extra_body={"steering": STEERING})


def _texts_at_once(address: str) -> float:
    """Return the mean size of the server's batches, without that of the first text."""
    with urllib.request.urlopen(f"{address}/metrics") as reply:  # noqa: S310
        lines = dict(line.rsplit(" ", 1) for line in reply.read().decode().splitlines() if not line.startswith("#"))
    return (float(lines["pplm_batch_texts_sum"]) - 1) / (float(lines["pplm_batch_texts_count"]) - 1)


def _different(answers: Sequence[Answered], name: str, new_tokens: int) -> list[int]:
    """Return the numbers of the requests whose answer differs from that of a single run."""
    import pplm
    from attribute_models import BagOfWords

    model, tokenizer = pplm.load_model(name, device="cpu")
    bag = BagOfWords.load(STEERING["bags"][0], tokenizer)
    presets = pplm.steering_presets(model)
    steering = pplm.SteeringConfig.for_attributes([bag], presets=presets, strength=STEERING["strength"])
    drawn: dict[str, Any] = {"do_sample": True, "top_k": 10}
    different = []
    for answer in answers:
        (alone,) = pplm.generate(
            model, tokenizer, _prompt(answer.number), attributes=[bag], steering=steering, seed=answer.number,
            max_new_tokens=_length(answer.number, new_tokens), **drawn,
        )  # fmt: skip
        if alone.completion != answer.text:
            different.append(answer.number)
    return different


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    run_command(serve_load)
