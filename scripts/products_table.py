"""Matrix products of a few rows on a CPU, timed as torch and as pplm compute them: a table of docs/speed.md.

python scripts/products_table.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import click
import torch

from pplm.benchmark import describe_machine
from pplm.cli import run_command
from pplm.cli.options import comma_list
from pplm.files.tables import markdown_table
from pplm.products import product

_SEED = 0


@click.command()
@click.option("--rows", default="1,4,16,64", show_default=True, callback=comma_list(int), help="Numbers of rows.")
@click.option("--shapes", default="768x3072,3072x768,768x50257", show_default=True, callback=comma_list(str),
              help="Shapes of the matrices.")  # fmt: skip
@click.option(
    "--repeats", default=30, show_default=True, type=click.IntRange(1), help="Runs of each; the shortest is shown."
)
def products_table(rows: Sequence[int], shapes: Sequence[str], repeats: int) -> None:
    """Print a Markdown table of microseconds for forward and backward together."""
    generator = torch.Generator().manual_seed(_SEED)
    click.echo(", ".join(f"{name} {value}" for name, value in describe_machine(torch.device("cpu")).items()) + "\n")
    lines = []
    for shape in shapes:
        matrix = torch.randn(*map(int, shape.split("x")), generator=generator)
        for count in rows:
            given = torch.randn(count, len(matrix), generator=generator).requires_grad_()
            upstream = torch.randn(count, matrix.shape[1], generator=generator)
            slow = _microseconds(lambda x=given, m=matrix, g=upstream: (x @ m).backward(g), repeats)
            fast = _microseconds(lambda x=given, m=matrix, g=upstream: product(x, m).backward(g), repeats)
            lines.append([str(count), shape, f"{slow:.0f}", f"{fast:.0f}", f"{fast / slow:.2f}"])
    click.echo("\n".join(markdown_table(["rows", "matrix", "torch", "pplm", "ratio"], lines)))


def _microseconds(work: Callable[[], object], repeats: int) -> float:
    found = []
    for _ in range(repeats + 1):  # the first run sets things up
        start = perf_counter()
        work()
        found.append(perf_counter() - start)
    return 1e6 * min(found[1:])


if __name__ == "__main__":
    run_command(products_table)
