"""Nothing in the packages runs what a file holds: no pickle, no eval, no code of a model's own."""

import ast
import inspect
from pathlib import Path

import pytest

import pplm
from pplm.cli.app import pplm as commands

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for package in ("pplm", "attribute_models") for path in (ROOT / package).rglob("*.py"))
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
RUNS = {"eval", "exec", "compile", "__import__"}
NEEDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
NEVER = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "pd.read_pickle"}


def dangers(source: str) -> list[str]:
    """Return what in a source could run what a file holds, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            bad = [alias.name for alias in node.names if alias.name.partition(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            harmless = node.module == "pickle" and names == {"UnpicklingError"}  # an exception's name
            bad = [str(node.module)] if str(node.module).partition(".")[0] in PICKLES and not harmless else []
        elif isinstance(node, ast.Call):
            bad = _calls(node)
        else:
            continue
        found += [f"line {node.lineno}: {name}" for name in bad]
    return found


def _calls(call: ast.Call) -> list[str]:
    name, given = ast.unparse(call.func), {keyword.arg: keyword.value for keyword in call.keywords}
    value = {key: node.value for key, node in given.items() if isinstance(node, ast.Constant)}
    argument, wanted = NEEDS.get(name, ("", None))
    bad = [name] if name in RUNS | NEVER or (argument and value.get(argument) is not wanted) else []
    return bad + [key for key in ("trust_remote_code", "shell") if value.get(key) is True]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_run_what_a_file_holds(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import dill.source",
        "from pickle import loads",
        "from joblib import load",
        "eval(line)",
        "exec(text)",
        "__import__(name)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
        "load(name, trust_remote_code=True)",
    ],
)
def test_the_search_finds_what_could_run_it(source):
    assert len(dangers(source)) == 1


def test_what_cannot_run_anything_is_let_through():
    source = (
        "import re\nfrom pickle import UnpicklingError\nre.compile(x)\ntorch.load(p, weights_only=True)\nm.eval()\n"
    )
    assert dangers(source) == []


def test_a_model_s_own_code_runs_only_where_python_asks_for_it():
    assert inspect.signature(pplm.load_model).parameters["trust_remote_code"].default is False
    options = {
        option for command in commands.commands.values() for parameter in command.params for option in parameter.opts
    }
    assert "--model" in options
    assert not [option for option in options if "trust" in option or "remote" in option]
