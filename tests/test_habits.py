"""The habits this project keeps, each as a rule that a program can check.

A rule is a function from a source (or a text) to the faults it finds there.  For each one there
is a snippet that breaks it: a rule that finds nothing anywhere guards nothing.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import mlm_jax
import mlm_torch
import pytest
from checkout import FOLDERS, name, project_files

import mlm_spec

PYTHON = sorted(project_files(".py"))
OF_PACKAGES = [p for p in PYTHON if any(p.is_relative_to(f) for f in FOLDERS.values())]
SCRIPTS = {"__main__.py", "conftest.py"}
OF_MODULES = [p for p in OF_PACKAGES if p.name not in SCRIPTS]
OF_TESTS = [p for p in PYTHON if name(p).startswith("tests/")]
OF_SUITE = [p for p in PYTHON if name(p).startswith("conformance/")]
TEXTS = [p for p in project_files() if p.suffix not in {".png", ".svg", ".npz", ".gz", ".pyc"}]

Rule = Callable[[str], list[str]]

# Lines of a file and of a function.  Most keep the first pair; nothing installed breaks the second.
COMFORT = (300, 25)
LIMITS = (500, 80)

COMPARERS = {
    "allclose",
    "approx",
    "assertAlmostEqual",
    "assert_allclose",
    "assert_almost_equal",
    "assert_approx_equal",
    "assert_array_almost_equal",
    "assert_close",
    "isclose",
}
TOLERANCES = {"rtol", "atol", "rel_tol", "abs_tol"}
ARBITRARY_CODE = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
DANGEROUS = {"shell=True", "allow_pickle=True", "weights_only=False"}
SKIPS = {"importorskip", "skip", "skipIf", "skipif", "xfail"}


def at(node: ast.AST, what: str) -> str:
    return f"line {getattr(node, 'lineno', 0)}: {what}"


def identifiers(source: str) -> Iterator[tuple[ast.AST, str]]:
    """Every identifier of a source: names, attributes, parameters, keywords, imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            yield node, node.id
        elif isinstance(node, ast.Attribute):
            yield node, node.attr
        elif isinstance(node, ast.arg) or (isinstance(node, ast.keyword) and node.arg):
            yield node, str(node.arg)
        elif isinstance(node, ast.alias):
            yield node, node.name.rpartition(".")[2]


def literal_tolerances(source: str) -> list[str]:
    """Bounds are derived from the case; nobody picks one, nor takes a library's default."""
    found = [at(n, word) for n, word in identifiers(source) if word in COMPARERS | TOLERANCES]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg in {"rel", "abs"}:
            found.append(at(node, str(node.arg)))
    return found


def arbitrary_code(source: str) -> list[str]:
    """Nothing that is read can run: no pickles, no eval, no shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [at(node, a.name) for a in node.names if a.name in ARBITRARY_CODE]
        elif isinstance(node, ast.ImportFrom) and node.module in ARBITRARY_CODE:
            found.append(at(node, node.module))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"eval", "exec", "os.system", "os.popen"}:
                found.append(at(node, called))
        elif isinstance(node, ast.keyword) and ast.unparse(node) in DANGEROUS:
            found.append(at(node, ast.unparse(node)))
    return found


def skips(source: str) -> list[str]:
    """A test that does not run must not look like one that passed."""
    return [
        at(node, word)
        for node, word in identifiers(source)
        if word in SKIPS and isinstance(node, ast.Attribute | ast.alias)
    ]


def stubs(source: str) -> list[str]:
    """What is here is whole."""
    found = [
        at(node, ast.unparse(node))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Raise)
        and ast.unparse(node) in {"raise NotImplementedError", "raise NotImplementedError()"}
    ]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string):
            found.append(f"line {token.start[0]}: {token.string}")
    return found


def swallowed_errors(source: str) -> list[str]:
    """An error is handled, or it goes on; it does not vanish."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            wide = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            empty = all(isinstance(line, ast.Pass) for line in node.body)
            if node.type is None or (wide and empty):
                found.append(at(node, "swallows every error"))
    return found


def without_postponed_annotations(source: str) -> list[str]:
    tree = ast.parse(source)
    has = any(ast.unparse(n) == "from __future__ import annotations" for n in tree.body)
    return [] if has or is_silent(tree) else ["line 1: no postponed annotations"]


def is_silent(tree: ast.Module) -> bool:
    """Whether a module holds a docstring and the future import, at most."""
    return all(
        (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
        or (isinstance(n, ast.ImportFrom) and n.module == "__future__")
        for n in tree.body
    )


def bound_names(tree: ast.Module) -> set[str]:
    """The names a module binds at its top level, in branches too."""
    found = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(statement.name)
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.alias):
                found.add(node.asname or node.name.split(".", 1)[0])
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
    return found


def wrong_exports(source: str) -> list[str]:
    """A module says what it offers, in ``__all__``, and has it."""
    tree = ast.parse(source)
    exports = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and ast.unparse(node).split("=")[0].split(":")[0].strip() == "__all__"
    ]
    if is_silent(tree) and not exports:
        return []
    if len(exports) != 1:
        return [f"line 1: {len(exports)} times __all__"]
    try:
        names = [str(item) for item in ast.literal_eval(exports[0] or ast.Constant(()))]
    except ValueError:
        return ["line 1: __all__ is not a list of names"]
    bound = bound_names(tree)
    wrong = [f"__all__ names {n}, which is not here" for n in names if n not in bound]
    return wrong + [f"__all__ names {n} twice" for n in sorted(set(names)) if names.count(n) > 1]


def foreign_paths(text: str) -> list[str]:
    """No path of the machine it was written on."""
    places = "|".join(["work", "root", "farm", "tmp", "home", "Users"])
    pattern = re.compile(rf"(?:^|[^\w.)}}\]/-])/(?:{places})/\w")
    return [
        f"line {n}: {line.strip()[:80]}"
        for n, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def lengths(source: str) -> list[tuple[str, int]]:
    """(function, lines) for each function, its docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            size = (node.end_lineno or 0) - node.lineno + 1
            found.append((node.name, size - (len(text.splitlines()) if text else 0)))
    return found


def too_large(source: str) -> list[str]:
    """A file or a function that no reader can hold."""
    count = len(source.splitlines())
    found = [f"line 1: {count} lines"] if count > LIMITS[0] else []
    return found + [f"{f}: {size} lines" for f, size in lengths(source) if size > LIMITS[1]]


def classes(source: str) -> set[str]:
    return {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef)}


def inherits(source: str, ours: set[str]) -> list[str]:
    """Our classes do not inherit from each other, exceptions apart."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).split("[")[0].rpartition(".")[2] for base in node.bases]
            found += [
                at(node, f"{node.name}({base})")
                for base in bases
                if base in ours and not base.endswith("Error")
            ]
    return found


def faults(rule: Rule, paths: list[Path]) -> list[str]:
    """All that a rule finds in a set of files, which must not be empty."""
    assert paths
    return [f"{name(p)} {fault}" for p in paths for fault in rule(p.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("rule", "paths"),
    [
        (literal_tolerances, OF_TESTS + OF_SUITE),
        (arbitrary_code, PYTHON),
        (skips, OF_TESTS),
        (stubs, PYTHON),
        (swallowed_errors, PYTHON),
        (without_postponed_annotations, PYTHON),
        (wrong_exports, OF_MODULES),
        (foreign_paths, TEXTS),
        (too_large, OF_PACKAGES),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_project_keeps_the_habit(rule: Rule, paths: list[Path]) -> None:
    assert faults(rule, paths) == []


def test_our_classes_do_not_inherit_from_each_other() -> None:
    ours = {c for p in OF_PACKAGES for c in classes(p.read_text(encoding="utf-8"))}
    assert ours
    assert faults(lambda source: inherits(source, ours), OF_PACKAGES) == []


def test_most_files_and_functions_have_a_comfortable_size() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in PYTHON}
    large = [name(p) for p, source in sources.items() if len(source.splitlines()) > COMFORT[0]]
    sizes = [size for source in sources.values() for _, size in lengths(source)]
    long = [size for size in sizes if size > COMFORT[1]]
    assert 5 * len(large) <= len(sources), large
    assert 10 * len(long) <= len(sizes)


PLACE = "/" + "work" + "/x"  # spelt in two, so that this file keeps its own rule


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        (literal_tolerances, "assert np.allclose(a, b)"),
        (literal_tolerances, "check(a, b, rtol=1e-5)"),
        (literal_tolerances, "assert a == pytest.approx(b)"),
        (literal_tolerances, "near(a, b, rel=0.1)"),
        (literal_tolerances, "from math import isclose"),
        (literal_tolerances, "def near(a, b, atol=0.1): ..."),
        (arbitrary_code, "import pickle"),
        (arbitrary_code, "from marshal import loads"),
        (arbitrary_code, "eval('1')"),
        (arbitrary_code, "exec(text)"),
        (arbitrary_code, "run('ls', shell=True)"),
        (arbitrary_code, "np.load(f, allow_pickle=True)"),
        (arbitrary_code, "torch.load(f, weights_only=False)"),
        (arbitrary_code, "os.system('ls')"),
        (skips, "pytest.skip('no device')"),
        (skips, "@pytest.mark.xfail\ndef test_x(): ..."),
        (skips, "jax = pytest.importorskip('jax')"),
        (stubs, "x = 1  # TODO: two"),
        (stubs, "def f():\n    raise NotImplementedError"),
        (swallowed_errors, "try:\n    f()\nexcept Exception:\n    pass"),
        (swallowed_errors, "try:\n    f()\nexcept:\n    g()"),
        (without_postponed_annotations, "x: int = 1"),
        (wrong_exports, "x = 1"),
        (wrong_exports, "__all__ = ['y']\nx = 1"),
        (wrong_exports, "__all__ = ['x', 'x']\nx = 1"),
        (wrong_exports, "__all__ = x + ['y']\ny = 1"),
        (wrong_exports, "__all__ = ['x']\nx = 1\n__all__ = ['x']"),
        (foreign_paths, f"see {PLACE}"),
        (foreign_paths, f"path = '{PLACE}'"),
        (too_large, "x = 1\n" * (LIMITS[0] + 1)),
        (too_large, "def f():\n" + "    x = 1\n" * LIMITS[1]),
    ],
)
def test_a_broken_habit_is_found(rule: Rule, snippet: str) -> None:
    assert rule(snippet)


@pytest.mark.parametrize(
    ("rule", "snippet"),
    [
        (literal_tolerances, "assert abs(a - b) <= bound"),
        (arbitrary_code, "model.eval()\nre.compile('a')\nrun(['ls'], shell=False)"),
        (swallowed_errors, "try:\n    f()\nexcept KeyError:\n    pass"),
        (without_postponed_annotations, "from __future__ import annotations\nx = 1"),
        (without_postponed_annotations, '"""Text."""'),
        (skips, "def f(skip): ..."),
        (stubs, "raise NotImplementedError(reason)"),
        (wrong_exports, "__all__: list[str] = []\nx = 1"),
        (wrong_exports, "import a.b\n__all__ = ['a', 'f']\ndef f(): ..."),
        (foreign_paths, "docs/work/x, https://example.org/home/x and a/tmp/b"),
        (foreign_paths, "/opt/x"),
    ],
)
def test_a_kept_habit_is_not_reported(rule: Rule, snippet: str) -> None:
    assert rule(snippet) == []


def test_inheritance_is_found_and_exceptions_are_let_be() -> None:
    assert inherits("class B(A): ...", {"A", "B"}) != []
    assert inherits("class B(module.A[int]): ...", {"A"}) != []
    assert inherits("class B(BaseError): ...", {"BaseError"}) == []
    assert inherits("class B(NamedTuple): ...", {"A"}) == []


def test_a_docstring_does_not_count_as_length() -> None:
    assert lengths('def f():\n    """One.\n\n    Three.\n    """\n    return 1\n') == [("f", 2)]


@pytest.mark.parametrize("package", [mlm_spec, mlm_torch, mlm_jax], ids=lambda p: p.__name__)
def test_every_public_function_names_its_source_and_its_bound(package: ModuleType) -> None:
    functions = [f for n in package.__all__ if inspect.isfunction(f := getattr(package, n))]
    assert len(functions) > 10
    silent = [
        f.__name__
        for f in functions
        if not re.search(r"Source: .+\n?.*Bound: ", inspect.getdoc(inspect.unwrap(f)) or "")
    ]
    assert silent == []
