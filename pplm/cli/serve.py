"""`pplm serve`: the options of the server that speaks OpenAI's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pplm.apps.doors.address import LOOPBACK, check_extra
from pplm.apps.doors.key import KEY_VARIABLE, find_key
from pplm.apps.doors.offers import read_offers
from pplm.cli.options import model_options
from pplm.cli.outputs import FILE

PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "yaml")


@click.command("serve")
@model_options
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help=f"Address to listen on. One that other machines can reach needs an API key ({KEY_VARIABLE}).",
)
@click.option(
    "--port", type=int, default=8000, show_default=True, help="Port to listen on; 0 takes a free one and shows it."
)
@click.option(
    "--offers",
    type=FILE,
    default=None,
    help="A YAML file with steered models, and further bags and heads, that clients may name; see docs/serve.md.",
)
@click.option(
    "--api-key-file",
    type=FILE,
    default=None,
    help=f"A file with the key that clients have to send.  [default: ${KEY_VARIABLE}, else no key]",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further host name under which requests may reach the server, such as a proxy's. Repeatable.",
)
@click.option(
    "--cors-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Origin of web pages that may call the server from a browser, such as https://example.com. Repeatable.",
)
@click.option("--max-tokens", type=int, default=512, show_default=True, help="Most new tokens of one text.")
@click.option("--max-samples", type=int, default=8, show_default=True, help="Most texts of one request.")
@click.option(
    "--max-batch-size",
    type=int,
    default=32,
    show_default=True,
    help="Most texts generated at once; lower it when memory runs out.",
)
@click.option(
    "--max-waiting",
    type=int,
    default=128,
    show_default=True,
    help="Requests that may wait for their turn; further ones are refused (429).",
)
@click.option(
    "--max-seconds",
    type=int,
    default=120,
    show_default=True,
    help="Seconds after which a request that still waits is refused (503), and one that is being answered ends.",
)
@click.option(
    "--max-body",
    type=int,
    default=256 * 1024,
    show_default=True,
    help="Most bytes of a request; a larger one is refused (413).",
)
def serve_command(
    model_name: str, device: str, dtype: Any, quantize: Any, host: str, port: int, offers: Path | None,
    api_key_file: Path | None, hosts: tuple[str, ...], origins: tuple[str, ...], **limits: int,
) -> None:  # fmt: skip
    """Serve a steered model to programs that speak OpenAI's protocol.

    /v1/completions, /v1/chat/completions and /v1/models, as OpenAI's clients call them; steering is asked for in a
    field of its own: {"steering": {"bags": ["space"], "strength": 0.5}}. Needs the extra serve: pip install
    "pplm[serve]". After SIGTERM or Ctrl-C it finishes the texts being written, and ends.
    """  # fmt: skip
    check_extra("serve", PACKAGES)
    from pplm.apps.server.limits import Limits
    from pplm.apps.server.run import Settings, serve

    settings = Settings(
        host=host, port=port, hosts=hosts, key=find_key(api_key_file), origins=origins, offers=read_offers(offers),
        limits=Limits(**limits),
    )  # fmt: skip

    def load() -> tuple[Any, Any]:
        from pplm.models.loading import load_model

        return load_model(model_name, device=device, dtype=dtype, quantize=quantize)

    serve(model_name, load, settings, on_ready=lambda url: click.echo(f"{model_name} is served at {url}/v1", err=True))
