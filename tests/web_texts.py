"""What the web page writes, without a browser; `conftest.py` makes its fixture every test's."""

import pytest

from attribute_models.naming import KnownNames
from pplm.apps.web.running import Reins, write
from pplm.apps.web.served import Served


@pytest.fixture(scope="session")
def served(chat, tmp_path_factory):
    """The tiny chat model with one list of words, as the page serves it."""
    model, tokenizer = chat
    path = tmp_path_factory.mktemp("lists") / "cats.txt"
    path.write_text("cat\nstar\nmoon\n", encoding="utf-8")
    return Served("tiny", model, tokenizer, known=KnownNames({"cats": path}, {}))


def written(served, request, seconds=60.0):
    return list(write(served, request, Reins(seconds)))


def texts(progress):
    return [(text["sample"], text["steered"], text["text"]) for text in progress.document["texts"]]
