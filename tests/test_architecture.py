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


LEVELS = (
    {"errors", "lazy", "private_names", "short_repr"},
    {"pooling", "seeds", "presets", "products", "checks", "apps.html"},
    {"step", "notebook"},
    {"config", "passes"},
    {"attached"},
    {"steering", "control", "interface", "batching"},
    {"text", "sine", "files"},
    {"models"},
    {"evaluation"},
    {"generated_text", "text_scores"},
    {"rerank", "documents"},
    {"generation"},
    {"chat", "jobs"},
    {"comparison", "benchmark", "pretraining", "explanation"},
    {"tuning"},
    {"apps"},
    {"cli"},
)
"""The rooms and single modules of `pplm`, each row importing from the rows above it; a room may import itself."""
ALSO = {"sine": {"files.figures", "files"}, "evaluation": {"models"}}
"""Imports within a row."""


def room(module):
    """Return the room of a module's name, or the module where it stands on the ground floor.

    The HTML of a trace is a room of its own: it stands beside the edges that show it, and imports errors alone, so that
    texts can show themselves in a notebook.
    """
    return "apps.html" if module.startswith("apps.html") else module.split(".")[0]


def test_imports_point_one_way():
    rank = {name: number for number, row in enumerate(LEVELS) for name in row}
    paths = [
        path for path in modules("pplm") if path.parent != ROOT / "pplm" or path.stem not in ("__init__", "__main__")
    ]
    assert len(paths) > 50
    for path in paths:
        own = room(".".join(path.relative_to(ROOT / "pplm").with_suffix("").parts))
        for name in of_pplm(path) - ALSO.get(own, set()):
            assert name != "pplm", f"{path} imports the whole package"
            assert room(name) == own or rank[room(name)] < rank[own], f"{path} imports {name}"


def test_only_the_edges_import_the_attribute_models():
    files = [path for path in modules("pplm") if not {"cli", "apps"} & set(path.relative_to(ROOT).parts)]
    for path in files:
        assert not {name for name in imported(path) if name.split(".")[0] == "attribute_models"}, path


def test_what_names_attributes_stands_where_all_edges_reach_it():
    assert "attribute_models.naming" in imported(ROOT / "pplm/cli/attributes.py")
    assert not {name for name in of_pplm(ROOT / "attribute_models/naming.py") if room(name) in {"cli", "apps"}}


def test_the_html_of_a_trace_imports_only_errors():
    found = set().union(*(of_pplm(path) for path in modules("pplm/apps/html")))
    assert {name for name in found if not name.startswith("apps.html")} == {"errors"}


def test_the_core_imports_only_settings_and_errors():
    assert of_pplm(ROOT / "pplm/steering.py") == {"config", "errors", "step"}
    assert not {name for name in imported(ROOT / "pplm/steering.py") if name.startswith("transformers")}


def test_products_and_private_names_import_torch_alone():
    assert of_pplm(ROOT / "pplm/products.py") == {"private_names"}
    for name in ("products", "private_names"):
        names = {name for name in imported(ROOT / f"pplm/{name}.py") if not name.startswith("pplm.private_names")}
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"torch"}


def test_within_text_the_tensors_do_not_import_the_loop():
    above = {"text.decoding", "text.steered_text", "text.objective", "text.reader", "text.forward", "text.limits"}
    for module in ("distributions", "kv_cache", "sampling", "encoding"):
        assert not of_pplm(ROOT / f"pplm/text/{module}.py") & above


def test_text_opens_no_file():
    for path in modules("pplm/text"):
        assert not {name for name in of_pplm(path) if room(name) in {"files", "models"}}, path
        assert not {"pathlib", "os", "io", "json"} & imported(path), path


def test_the_wave_imports_nothing_of_text():
    for path in modules("pplm/sine"):
        assert not {name for name in of_pplm(path) if room(name) == "text"}, path


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        (
            "benchmark",
            {
                "checks",
                "pooling",
                "config",
                "errors",
                "presets",
                "interface",
                "attached",
                "files",
                "models",
                "seeds",
                "text",
                "batching",
                "generation",
                "generated_text",
                "passes",
            },
        ),
        ("pretraining", {"checks", "config", "errors", "lazy", "models", "files", "seeds"}),
        ("evaluation", {"checks", "errors", "lazy", "products", "files", "models", "text", "batching"}),
    ],
)
def test_measuring_and_pretraining_import_little(package, allowed):
    found = set().union(*(of_pplm(path) for path in modules(f"pplm/{package}")))
    assert {room(name) for name in found} <= allowed | {package}


def test_attribute_models_import_the_interface_and_not_the_machinery():
    allowed = {
        "attached",
        "batching",
        "checks",
        "interface",
        "errors",
        "config",
        "presets",
        "products",
        "lazy",
        "pooling",
        "private_names",
        "short_repr",
        "files",
        "models",
    }
    found = set().union(*(of_pplm(path) for path in modules("attribute_models")))
    assert "interface" in found
    assert {name for name in found if room(name) not in allowed} <= {"text", "text.encoding"}


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
