"""Deprecations that our own calls meet are errors in every test."""

import logging
import warnings

import pytest
from conftest import pytest_runtest_call
from deprecations import OWN, deprecated_calls

LIBRARY = """
import contextlib, logging, warnings

def old(kind):
    warnings.warn("old is deprecated; use new", kind)

def named(kind):
    warnings.warn("named is deprecated", kind, stacklevel=2)

def logged(kind):
    logging.getLogger("transformers.generation").warning("`logged` is deprecated and will be removed")

@contextlib.contextmanager
def block(kind):
    warnings.warn("block is deprecated; use new", kind)
    yield
"""


def defined(name, filename, code, **names):
    """Return the names that a module defines, as if it lay in a file."""
    space = {"__name__": name, **names}
    exec(compile(code, filename, "exec"), space)  # noqa: S102
    return space


@pytest.fixture
def ours():
    """Functions of a module of pplm that calls a library."""
    library = defined("torch.library", "/site-packages/torch/library.py", LIBRARY)
    code = """
def old(kind): library["old"](kind)
def named(kind): library["named"](kind)
def logged(kind): library["logged"](kind)
def block(kind):
    with library["block"](kind): pass
"""
    return library, defined("pplm.planted", f"{OWN[0]}planted.py", code, library=library)


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_warning_that_names_a_module_of_ours_is_an_error(kind, ours):
    with deprecated_calls(), pytest.raises(kind, match="named is deprecated"):
        ours[1]["named"](kind)


@pytest.mark.parametrize(("name", "line"), [("old", 2), ("logged", 4), ("block", 6)])
def test_a_call_of_ours_to_what_warns_of_itself_is_found_with_its_line(name, line, ours):
    with deprecated_calls() as found:
        ours[1][name](DeprecationWarning)
    assert len(found) == 1
    assert found[0].startswith(f"pplm/planted.py:{line}: ")
    assert "is deprecated" in found[0]


@pytest.mark.parametrize("name", ["old", "logged", "block"])
def test_what_a_library_calls_itself_is_its_own_affair(name, ours):
    with deprecated_calls() as found:
        ours[0][name](DeprecationWarning)
        logging.getLogger("transformers").warning("the weather is fine")
        with pytest.warns(UserWarning, match="fine"):
            warnings.warn("fine", stacklevel=1)
    assert found == []


def test_such_a_call_fails_the_test_that_makes_it(ours):
    hook = pytest_runtest_call()
    next(hook)
    ours[1]["old"](DeprecationWarning)
    with pytest.raises(pytest.fail.Exception, match=r"pplm/planted\.py:2: old is deprecated; use new"):
        hook.send(None)
