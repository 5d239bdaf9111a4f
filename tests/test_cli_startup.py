"""What is imported and shown before a command works: `import pplm` and `--help` wait for no torch."""

import ast
import pkgutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import get_args

import click
import pytest

from pplm.benchmark import RANDOM_MODELS
from pplm.cli import run_command
from pplm.cli.app import pplm as group
from pplm.sine import SteeringProtocol

ROOT = Path(__file__).resolve().parent.parent
LAZY = ["pplm", "attribute_models", "pplm.comparison", "pplm.evaluation", "pplm.pretraining"]
SLOW = {"torch", "transformers", "datasets", "accelerate", "numpy"}


def python(code, *options, **environment):
    """Run Python code in a process of its own."""
    return subprocess.run(  # noqa: S603
        [sys.executable, *options, "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_no_help_imports_torch_transformers_or_datasets():
    done = python(f"""
import sys
from pplm.cli import main
from pplm.cli.app import pplm

for arguments in [["--help"], *([name, "--help"] for name in pplm.commands)]:
    main(arguments)
    print("imported:", arguments, {SLOW} & set(sys.modules))
""")
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert len(found) == 1 + len(group.commands)
    assert [line for line in found if not line.endswith("set()")] == []


def test_importing_the_packages_imports_no_torch_and_lists_every_public_name():
    done = python(f"""
import sys, pplm, attribute_models
pplm.InputError, pplm.SteeringConfig, pplm.PAPER_PRESETS
assert set(pplm.__all__) <= set(dir(pplm)) and set(attribute_models.__all__) <= set(dir(attribute_models))
assert not hasattr(pplm, "lod_model")
print({SLOW} & set(sys.modules))
""")
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("name", LAZY)
def test_no_public_name_is_that_of_a_module_which_would_take_its_place_once_imported(name):
    package = import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules.isdisjoint(package.__all__)


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_see_every_public_name_where_it_is_defined(name):
    package = import_module(name)
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(seen) == sorted(package.__all__)
    for public, home in seen.items():
        assert getattr(package, public) is getattr(import_module(home), public)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'lod_model'"):
        package.lod_model  # noqa: B018


@pytest.mark.slow
def test_mypy_knows_the_types_of_public_names(tmp_path):
    mypy = pytest.importorskip("mypy.api")
    code = "import pplm, attribute_models as a\nreveal_type(pplm.generate)\nreveal_type(a.BagOfWords)\npplm.lod_model\n"
    (tmp_path / "user.py").write_text(code, encoding="utf-8")
    out, *_ = mypy.run([f"--config-file={ROOT / 'pyproject.toml'}", str(tmp_path / "user.py")])
    assert "def (model: Any, tokenizer: " in out
    assert "attribute_models.bag_of_words.BagOfWords" in out
    assert 'Module has no attribute "lod_model"' in out


def test_the_list_of_commands_gives_whole_sentences(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("--help")
    shown = " ".join(out.split())
    assert code == 0
    for each in group.commands.values():
        first, *_ = each.help.split("\n\n")
        assert first.endswith(".")
        assert " ".join(first.split()) in shown


@pytest.mark.parametrize("name", group.commands)
def test_every_command_has_both_names_of_its_help_also_by_itself(name):
    with group.commands[name].make_context(name, [], resilient_parsing=True) as alone:
        assert alone.command.get_help_option(alone).opts == ["-h", "--help"]


def test_a_script_has_both_names_of_its_help(capsys):
    @click.command()
    def script():
        """Do something."""

    helps = []
    for name in ("-h", "--help"):
        run_command(script, [name])
        helps.append(capsys.readouterr().out)
    assert "Do something." in helps[0]
    assert helps[0] == helps[1]


def test_without_a_command_the_help_is_shown_as_it_is(command):
    code, out, err = command()
    assert (code, out) == (2, "")
    assert err == command("--help")[1]
    assert err.splitlines()[0] == "Usage: pplm [OPTIONS] COMMAND [ARGS]..."


def test_helps_name_the_choices_that_their_modules_have(command):
    assert all(name in command("benchmark", "--help")[1] for name in RANDOM_MODELS)
    protocol = next(option for option in group.commands["sine"].params if option.name == "protocol")
    assert list(protocol.type.choices) == list(get_args(SteeringProtocol))


def test_an_argument_that_is_not_text_is_one_line(command):
    code, out, err = command("generate", "The \udcff lake", "--bag", "space")
    assert (code, out) == (2, "")
    assert err == "Error: argument 'The \\udcff lake' is not UTF-8 text; type it again, or save its source as UTF-8\n"


WARNING = """
import warnings, click, pplm
from pplm.cli import run_command

@click.command()
def warn():
    for _ in range(2):
        warnings.warn("the gradients\\nare zero", pplm.SteeringWarning)
    warnings.warn("the gradients\\nare zero", pplm.SteeringWarning)
    warnings.warn("of another library")

run_command(warn, [])
"""


def test_a_warning_of_ours_is_one_line_and_others_are_shown_as_python_shows_them():
    done = python(WARNING)
    ours, other = done.stderr.splitlines()[:2]
    assert ours == "Warning: the gradients are zero"
    assert other == "<string>:10: UserWarning: of another library"
    assert done.stderr.count("gradients") == 1


def test_a_warning_can_be_filtered_and_comes_from_the_first_of_several_processes():
    assert "gradients" not in python(WARNING, "-W", "ignore::pplm.SteeringWarning").stderr
    assert "gradients" not in python(WARNING, RANK="1").stderr


def test_reading_gguf_files_needs_no_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(name.startswith("gguf") for name in project["dependencies"])
    assert "gguf" not in project["optional-dependencies"]
