"""Imports point one way; see CONTRIBUTING.md for the house."""

import ast
import sys
from pathlib import Path

import pytest

import attribute_models
import pplm

ROOT = Path(pplm.__file__).resolve().parent.parent


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """Return the full names of the modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def of_pplm(path):
    """Return the modules of pplm that a file imports, without the package's name."""
    known = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in modules("pplm")}
    return {name.removeprefix("pplm.") for name in imported(path) if name in known}


def test_only_the_command_line_knows_the_attribute_models():
    files = [path for path in modules("pplm") if "cli" not in path.relative_to(ROOT).parts]
    assert len(files) > 10
    for path in files:
        assert not {name for name in imported(path) if name.split(".")[0] == "attribute_models"}, path


def test_the_core_knows_only_its_settings_and_errors():
    assert of_pplm(ROOT / "pplm/steering.py") == {"config", "errors"}
    assert not {name for name in imported(ROOT / "pplm/steering.py") if name.startswith("transformers")}


def test_products_know_torch_alone():
    assert not of_pplm(ROOT / "pplm/products.py")
    assert {name.split(".")[0] for name in imported(ROOT / "pplm/products.py")} <= sys.stdlib_module_names | {"torch"}


@pytest.mark.parametrize(
    "module", ["config", "errors", "interface", "distributions", "pooling", "kv_cache", "products"]
)
def test_the_foundations_do_not_know_what_stands_on_them(module):
    above = {"decoding", "generation", "models", "steered_text", "objective", "passes", "forward", "cli", "pplm"}
    assert not of_pplm(ROOT / f"pplm/{module}.py") & above


def test_decoding_knows_neither_generation_nor_files():
    for module in ("decoding", "steered_text", "objective", "passes", "forward", "limits", "sampling", "trace"):
        assert not of_pplm(ROOT / f"pplm/{module}.py") & {"generation", "models", "resources", "cli", "pplm"}


def test_only_the_command_line_knows_the_benchmark():
    for path in modules("pplm"):
        if not {"benchmark", "cli"} & set(path.relative_to(ROOT).parts):
            assert not {name for name in of_pplm(path) if name.split(".")[0] == "benchmark"}, path
    found = set().union(*(of_pplm(path) for path in modules("pplm/benchmark")))
    assert "decoding" in found
    assert not {name for name in found if name.split(".")[0] in {"cli", "evaluation", "pplm"}}


def test_only_the_command_line_knows_the_training_of_base_models():
    for path in modules("pplm"):
        if not {"pretraining", "cli"} & set(path.relative_to(ROOT).parts):
            assert not {name for name in of_pplm(path) if name.split(".")[0] == "pretraining"}, path
    found = set().union(*(of_pplm(path) for path in modules("pplm/pretraining")))
    assert {"pretraining.loss", "models"} <= found
    assert {name for name in found if name.split(".")[0] != "pretraining"} <= {
        "config",
        "errors",
        "models",
        "processes",
        "resources",
    }


def test_attribute_models_use_the_interface_and_not_the_machinery():
    allowed = {"interface", "errors", "resources", "pooling", "models", "encoding", "fingerprint", "processes"}
    found = set().union(*(of_pplm(path) for path in modules("attribute_models")))
    assert "interface" in found
    assert found <= allowed


def test_evaluation_knows_texts_and_models_but_not_what_steers_them():
    allowed = {"errors", "encoding", "fingerprint", "models", "resources"}
    found = set().union(*(of_pplm(path) for path in modules("pplm/evaluation")))
    assert {"evaluation.metrics", "models"} <= found
    assert {name for name in found if name.split(".")[0] != "evaluation"} <= allowed
    assert of_pplm(ROOT / "pplm/evaluation/metrics.py") == {"errors"}


def test_a_comparison_is_built_on_generation_and_evaluation_and_only_the_command_line_is_built_on_it():
    found = set().union(*(of_pplm(path) for path in modules("pplm/comparison")))
    assert {"generation", "evaluation.scoring", "rerank"} <= found
    assert not {name for name in found if name.split(".")[0] == "cli"}
    for path in modules("pplm"):
        if not {"cli", "comparison"} & set(path.relative_to(ROOT).parts):
            assert not {name for name in of_pplm(path) if name.split(".")[0] == "comparison"}, path


SEEDING = {"torch.manual_seed", "np.random.seed", "random.seed"}


def called(node):
    """Return the names of all functions that are called in a syntax tree, and those of the seedings let through.

    Seeding torch inside `with torch.random.fork_rng(...)` leaves no trace, so it is let through.
    """
    names, forked = [], []
    for child in ast.iter_child_nodes(node):
        inner, inner_forked = called(child)
        names, forked = names + inner, forked + inner_forked
    if isinstance(node, ast.Call):
        names.append(ast.unparse(node.func))
    if isinstance(node, ast.With) and any(
        isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) == "torch.random.fork_rng"
        for item in node.items
    ):
        forked += [name for name in names if name == "torch.manual_seed"]
        names = [name for name in names if name != "torch.manual_seed"]
    return names, forked


def test_packages_do_not_print_and_do_not_seed():
    forked = {}
    for path in [*modules("pplm"), *modules("attribute_models")]:
        names, forked[path.stem] = called(ast.parse(path.read_text("utf-8")))
        assert not set(names) & {"print", "eval", "exec", *SEEDING}, path
    assert {name for name, seedings in forked.items() if seedings} == {"own_texts", "model_setup", "random_models"}


@pytest.mark.parametrize(
    ("code", "seeds"),
    [
        ("torch.manual_seed(0)", True),
        ("with torch.random.fork_rng():\n    torch.manual_seed(0)", False),
        ("with torch.random.fork_rng(devices=[]):\n    pass\ntorch.manual_seed(0)", True),
        ("with torch.no_grad():\n    torch.manual_seed(0)", True),
        ("with torch.random.fork_rng():\n    np.random.seed(0)", True),
    ],
)
def test_seeding_is_let_through_only_where_it_leaves_no_trace(code, seeds):
    assert bool(set(called(ast.parse(code))[0]) & SEEDING) is seeds


@pytest.mark.parametrize("package", [pplm, attribute_models])
def test_exported_names_are_sorted_and_can_be_imported(package):
    # Constants first, then classes, then functions: the order that the linter keeps.
    def rank(name):
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert list(package.__all__) == sorted(package.__all__, key=rank)
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_the_names_that_users_are_promised_are_exported():
    wanted = {"load_model", "generate", "Generation", "SteeringConfig", "steered_decoding", "steer", "InputError"}
    assert wanted <= set(pplm.__all__)
    assert {"BagOfWords", "Discriminator"} <= set(attribute_models.__all__)
