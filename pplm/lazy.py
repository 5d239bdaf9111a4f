"""Public names are imported at their first use, so that `import pplm` and `pplm --help` do not wait for torch."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package that imports its public names under `if TYPE_CHECKING:`.

    Those imports are the only list of where names come from: type checkers and editors read it directly, and the
    returned `__getattr__` looks up a name's module in it.
    """
    module = sys.modules[package]

    def load(name: str) -> Any:
        if name not in module.__all__:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        nodes = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.ImportFrom)]
        home = next(str(node.module) for node in nodes if name in {alias.name for alias in node.names})
        value = getattr(import_module(home), name)
        setattr(module, name, value)  # from now on an ordinary attribute
        return value

    return load, lambda: sorted({*vars(module), *module.__all__})
