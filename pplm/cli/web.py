"""`pplm web`: the options of the page to play with in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pplm.apps.doors.address import LOOPBACK, check_extra, is_loopback
from pplm.apps.doors.key import KEY_VARIABLE, find_key
from pplm.apps.doors.offers import read_offers
from pplm.cli.options import model_options
from pplm.cli.outputs import FILE

PACKAGES = ("gradio", "yaml")


@click.command("web")
@model_options
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help=f"Address to listen on. Set a key ({KEY_VARIABLE}) if other machines can reach it.",
)
@click.option(
    "--port", type=int, default=7860, show_default=True, help="Port to listen on; 0 takes a free one and shows it."
)
@click.option(
    "--offers",
    type=FILE,
    default=None,
    help="A YAML file with further bags and heads that visitors may choose; see docs/web.md.",
)
@click.option(
    "--api-key-file",
    type=FILE,
    default=None,
    help=f"A file with the key that visitors have to type.  [default: ${KEY_VARIABLE}, else no key]",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further host name under which browsers may open the page, such as a proxy's. Repeatable.",
)
@click.option(
    "--max-seconds",
    type=click.IntRange(min=1),
    default=120,
    show_default=True,
    help="Seconds after which the texts of one request end.",
)
def web_command(
    model_name: str, device: str, dtype: Any, quantize: Any, host: str, port: int, offers: Path | None,
    api_key_file: Path | None, hosts: tuple[str, ...], max_seconds: int,
) -> None:  # fmt: skip
    """Open a page to play with: steered and unsteered text side by side, shaded.

    Needs the extra web: pip install "pplm[web]". Visitors choose among what ships and what --offers registers; nothing
    that they send is read as a file's name. Ctrl-C ends it.
    """
    check_extra("web", PACKAGES)
    from pplm.apps.web.run import Settings, serve
    from pplm.apps.web.served import Served

    key, known = find_key(api_key_file), read_offers(offers).known
    if key is None and not is_loopback(host):
        click.echo(f"Warning: --host {host} lets other machines in, and there is no key; set {KEY_VARIABLE} or pass "
                   "--api-key-file FILE", err=True)  # fmt: skip

    def load() -> Served:
        from pplm.models.loading import load_model

        model, tokenizer = load_model(model_name, device=device, dtype=dtype, quantize=quantize)
        given = {"device": (device, "auto"), "dtype": (dtype, "float32"), "quantize": (quantize, None)}
        options = {name: value for name, (value, default) in given.items() if value != default}
        return Served(model_name, model, tokenizer, options, known)

    settings = Settings(host=host, port=port, hosts=hosts, key=key, seconds=max_seconds)
    serve(load, settings, on_ready=lambda url: click.echo(f"{model_name} can be played with at {url}", err=True))
