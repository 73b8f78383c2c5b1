"""Who may import whom (docs/architecture.md).

Independence is what makes agreement mean something: a backend that called the reference, or
another backend, would agree with it whatever it did.  Each rule is shown to be able to fail.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from checkout import FOLDERS, FRAMEWORKS

BACKENDS = {"mlm_torch": {"torch"}, "mlm_jax": {"jax", "jaxlib"}}
SHARED = (
    "mlm_spec.errors",
    "mlm_spec.policy",
    "mlm_spec.batch",
    "mlm_spec.training.batch",
    "mlm_spec.training.config",
)
SUITE_LIBRARIES = {
    "flint",
    "hypothesis",
    "jinja2",
    "jsonschema",
    "markupsafe",  # jinja2's own; its types appear wherever jinja2's do
    "matplotlib",
    "ml_dtypes",
    "mlm_conformance",
    "mlm_spec",
    "numpy",
    "pytest",
    "rich",
    "tokenizers",
}


def is_field(path: Path) -> bool:
    """Whether a file of the suite may name frameworks: it checks the implementations of others."""
    return path.is_relative_to(FOLDERS["mlm_conformance"] / "field")


def may_import(package: str, name: str, *, field: bool = False) -> bool:
    """Whether a module of ``package`` may import the absolute dotted ``name``."""
    top = name.split(".", 1)[0]
    if top in sys.stdlib_module_names:
        return True
    if package == "mlm_spec":
        return top in {"numpy", "mlm_spec"}
    if package in BACKENDS:
        if top == "mlm_spec":
            return any(name == module or name.startswith(module + ".") for module in SHARED)
        return top in {package, "numpy", "ml_dtypes", "safetensors", *BACKENDS[package]}
    if top in BACKENDS:
        return False
    return field or top in SUITE_LIBRARIES


def imported_names(source: str, module: str, *, is_package: bool = False) -> set[str]:
    """Every name that ``source`` imports, absolute, ``from a import b`` as ``a.b``."""
    parts = module.split(".") if is_package else module.split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = parts[: len(parts) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def dynamic_imports(source: str) -> list[int]:
    """The lines that import by a computed name, which no scan can follow."""
    names = {"__import__", "import_module"}
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.Name) and node.id in names)
    ]


def framework_words(text: str) -> list[str]:
    """Each line that names a framework, in code, comment or string."""
    word = re.compile("|".join(FRAMEWORKS), re.IGNORECASE)
    return [
        f"{n}: {line.strip()}" for n, line in enumerate(text.splitlines(), 1) if word.search(line)
    ]


def forbidden_imports(package: str, folder: Path) -> list[str]:
    """``file: name`` for each import of a package that the architecture does not allow."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        source = path.read_text(encoding="utf-8")
        names = imported_names(source, module, is_package=is_package)
        found += [
            f"{path.relative_to(folder.parent)}: {name}"
            for name in sorted(names)
            if not may_import(package, name, field=is_field(path))
        ]
    return found


# Runs in a fresh interpreter: imports every module of a package, and writes down what the
# package itself asked for (through the import hook) and what was loaded in the end.
OBSERVER = textwrap.dedent(
    """
    import builtins, importlib, importlib.util, json, pkgutil, sys

    package, skip, extra = sys.argv[1], sys.argv[2], sys.argv[3:]
    sys.path[:0] = extra
    before, asked, real = set(sys.modules), set(), builtins.__import__

    def observed(name, globals=None, locals=None, fromlist=(), level=0):
        scope = globals or {}
        if (scope.get("__name__") or "").split(".")[0] == package:
            dotted = "." * level + name
            base = importlib.util.resolve_name(dotted, scope["__package__"]) if level else name
            asked.update([f"{base}.{item}" for item in fromlist] if fromlist else [base])
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = observed
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, package + "."):
        last = found.name.rpartition(".")[2]
        if last != "__main__" and not (skip and found.name.startswith(skip)):
            importlib.import_module(found.name)
    print(json.dumps({"asked": sorted(asked), "loaded": sorted(set(sys.modules) - before)}))
    """
)


def observe(package: str, skip: str = "", path: Path | None = None) -> dict[str, list[str]]:
    """What importing all of ``package`` asks for and loads, in an interpreter of its own."""
    command = [sys.executable, "-I", "-c", OBSERVER, package, skip]
    done = subprocess.run(
        [*command, *([str(path)] if path else [])], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def asked_against_the_rules(package: str, asked: list[str]) -> list[str]:
    return [name for name in asked if not may_import(package, name)]


def foreign(loaded: list[str], forbidden: set[str]) -> list[str]:
    """The top-level packages among ``loaded`` that must not be there."""
    return sorted({name.split(".", 1)[0] for name in loaded} & forbidden)


@pytest.mark.parametrize("package", FOLDERS)
def test_every_import_in_the_source_is_allowed(package: str) -> None:
    assert any(FOLDERS[package].rglob("*.py"))
    assert forbidden_imports(package, FOLDERS[package]) == []


@pytest.mark.parametrize("package", ["mlm_spec", *BACKENDS])
def test_reference_and_backends_import_by_plain_statements_only(package: str) -> None:
    for path in FOLDERS[package].rglob("*.py"):
        assert dynamic_imports(path.read_text(encoding="utf-8")) == [], path.name


def test_the_suite_names_no_framework_outside_field() -> None:
    folder = FOLDERS["mlm_conformance"]
    kinds = {".py", ".jinja", ".css", ".json", ".toml", ".md"}
    files = [p for p in folder.rglob("*") if p.suffix in kinds and not is_field(p)]
    assert files
    named = [
        f"{path.relative_to(folder)}:{line}"
        for path in files
        for line in framework_words(path.read_text(encoding="utf-8"))
    ]
    assert named == []


def test_importing_the_reference_loads_numpy_and_the_standard_library_only() -> None:
    seen = observe("mlm_spec")
    assert asked_against_the_rules("mlm_spec", seen["asked"]) == []
    tops = {name.split(".", 1)[0] for name in seen["loaded"]}
    third_party = {top for top in tops if top not in sys.stdlib_module_names}
    assert third_party == {"mlm_spec", "numpy"}


@pytest.mark.parametrize("package", BACKENDS)
def test_importing_a_backend_loads_no_other_backend_framework_or_suite(package: str) -> None:
    seen = observe(package)
    assert asked_against_the_rules(package, seen["asked"]) == []
    others = {*FRAMEWORKS, "jaxlib", "mlm_conformance", *BACKENDS} - BACKENDS[package] - {package}
    assert foreign(seen["loaded"], others) == []
    assert foreign(seen["loaded"], BACKENDS[package]) != []  # the framework itself was loaded


def test_importing_the_suite_loads_no_framework_and_no_backend() -> None:
    seen = observe("mlm_conformance", skip="mlm_conformance.field")
    assert asked_against_the_rules("mlm_conformance", seen["asked"]) == []
    assert foreign(seen["loaded"], {*FRAMEWORKS, "jaxlib", *BACKENDS}) == []


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("mlm_spec", "import hypothesis"),
        ("mlm_spec", "import ml_dtypes"),
        ("mlm_spec", "def late():\n    import torch"),
        ("mlm_spec", "from mlm_torch import mask"),
        ("mlm_spec", "from mlm_conformance.bounds import u"),
        ("mlm_torch", "import mlm_spec"),
        ("mlm_torch", "from mlm_spec import mask"),
        ("mlm_torch", "from mlm_spec.random_words import threefry4x32"),
        ("mlm_torch", "from mlm_spec.thresholds import threshold"),
        ("mlm_torch", "from mlm_spec.policy_tools import x"),
        ("mlm_torch", "from mlm_jax import mask"),
        ("mlm_torch", "import jax.numpy as jnp"),
        ("mlm_torch", "import mlm_conformance"),
        ("mlm_jax", "import torch"),
        ("mlm_jax", "from mlm_torch.masking import mask"),
        ("mlm_jax", "import optax"),
        ("mlm_conformance", "import torch"),
        ("mlm_conformance", "from jax import numpy"),
        ("mlm_conformance", "import mlm_torch.port"),
        ("mlm_conformance", "import scipy.stats"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, package: str, line: str) -> None:
    folder = tmp_path / package
    folder.mkdir()
    (folder / "bad.py").write_text(line + "\n", encoding="utf-8")
    assert len(forbidden_imports(package, folder)) == 1


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("mlm_spec", "import numpy as np, fractions"),
        ("mlm_spec", "from .errors import ShapeError"),
        ("mlm_torch", "from mlm_spec.errors import ShapeError"),
        ("mlm_torch", "from mlm_spec import policy"),
        ("mlm_torch", "import torch.nn.functional as F"),
        ("mlm_jax", "from jax import lax"),
        ("mlm_conformance", "from hypothesis import strategies"),
    ],
)
def test_an_allowed_import_is_not_reported(tmp_path: Path, package: str, line: str) -> None:
    folder = tmp_path / package
    folder.mkdir()
    (folder / "good.py").write_text(line + "\n", encoding="utf-8")
    assert forbidden_imports(package, folder) == []


def test_relative_imports_are_resolved() -> None:
    source = "from . import a\nfrom .b import c\nfrom ..d import e\n"
    found = imported_names(source, "top.inner.module")
    assert found == {"top.inner.a", "top.inner.b.c", "top.d.e"}
    assert imported_names("from . import a", "top.inner", is_package=True) == {"top.inner.a"}


def test_not_even_the_field_may_import_a_backend() -> None:
    assert may_import("mlm_conformance", "transformers", field=True)
    assert not may_import("mlm_conformance", "mlm_torch.port", field=True)


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module('mlm' + '_spec')",
        "__import__('mlm_spec')",
        "from importlib import import_module as load\nimport_module('x')",
    ],
)
def test_an_import_by_a_computed_name_is_found(source: str) -> None:
    assert dynamic_imports(source)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_named_in_a_comment_is_found(framework: str) -> None:
    assert framework_words(f"x = 1  # as {framework.upper()} does\n") != []


def test_the_observer_sees_lazy_and_indirect_imports(tmp_path: Path) -> None:
    folder = tmp_path / "mlm_observed"
    folder.mkdir()
    (folder / "__init__.py").write_text("", encoding="utf-8")
    text = "import importlib\nimportlib.import_module('wave')\nfrom json import decoder\n"
    (folder / "bad.py").write_text(text, encoding="utf-8")
    seen = observe("mlm_observed", path=tmp_path)
    assert "json.decoder" in seen["asked"]
    assert foreign(seen["loaded"], {"wave"}) == ["wave"]
    assert asked_against_the_rules("mlm_torch", ["mlm_spec.selection.rank"]) != []
