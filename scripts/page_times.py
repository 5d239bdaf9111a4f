"""Seconds that a visitor of `pplm web` waits in the browser: for the first steered token, and for the whole text.

    pplm web &
    python scripts/page_times.py http://127.0.0.1:7860

Needs the extra `browser` and a chromium (`--chromium`). Each request has a seed of its own.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from urllib.parse import urlencode

import click

WATCH = """async (length) => {
  const begun = performance.now(), since = () => (performance.now() - begun) / 1000;
  const count = () => document.querySelector("#result .column")?.querySelectorAll(".token").length ?? 0;
  let first = null, whole = null;
  document.getElementById("generate").click();
  for (;;) {
    await new Promise(requestAnimationFrame);
    const status = document.querySelector("#status p")?.innerText ?? "";
    if (status.startsWith("Writing") && count() > 0) first ??= since();
    if (first !== null && count() >= length) whole ??= since();
    if (status.startsWith("Done")) return [first ?? since(), whole ?? since(), since()];
    if (status && !/^(Restored|Waiting|Reading|Writing)/.test(status)) throw new Error(status);
  }
}"""
"""Returns the seconds to the steered text's first token, to its last one, and to the end of both texts."""


@click.command()
@click.argument("address")
@click.option("--requests", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--length", type=click.IntRange(min=1), default=50, show_default=True, help="Tokens of each text.")
@click.option("--topic", default="space", show_default=True)
@click.option("--prompt", default="The lake", show_default=True)
@click.option(
    "--chromium",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default="/usr/bin/chromium",
    show_default=True,
)
def main(address: str, requests: int, length: int, topic: str, prompt: str, chromium: Path) -> None:
    """Print median, 95th percentile and largest of the requests' times; a first request is not counted."""
    from playwright.sync_api import sync_playwright

    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        for seed in range(requests + 1):
            page = browser.new_page()
            page.goto(f"{address}/?{urlencode({'prompt': prompt, 'bags': topic, 'length': length, 'seed': seed})}")
            page.locator("#status", has_text="Restored").wait_for(timeout=120_000)
            rows.append(page.evaluate(WATCH, length))
            page.close()
        browser.close()
    click.echo(f"{requests} requests of {length} tokens; seconds      median     95%   largest")
    for name, times in zip(
        ("first steered token", "steered text", "both texts"), zip(*rows[1:], strict=True), strict=True
    ):
        at_95 = sorted(times)[math.ceil(0.95 * len(times)) - 1]
        click.echo(f"{name:<38} {statistics.median(times):>8.2f} {at_95:>7.2f} {max(times):>9.2f}")


if __name__ == "__main__":
    main()
