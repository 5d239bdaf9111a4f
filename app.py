"""The web page as a Hugging Face Space: `python app.py`. docs/web.md says what else a Space needs."""

import os
import sys

from pplm.apps.web.run import serve
from pplm.apps.web.served import Served
from pplm.apps.web.space import settings_of
from pplm.models.loading import load_model
from pplm.models.resources import EMBEDDED_MODEL

MODEL = os.environ.get("PPLM_MODEL", EMBEDDED_MODEL)


def _served() -> Served:
    return Served(MODEL, *load_model(MODEL))


if __name__ == "__main__":
    serve(_served, settings_of(os.environ), on_ready=lambda url: sys.stderr.write(f"{MODEL} at {url}\n"))
