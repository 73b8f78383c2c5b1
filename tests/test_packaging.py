"""What a user gets: the wheel, installed beside numpy alone, and the editable install."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from email.message import Message
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkout import FOLDERS, FRAMEWORKS, ROOT
from hatchling.build import build_editable

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which nothing can be imported but what a test put there."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return next((self.folder / "lib").glob("python*/site-packages"))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs, away from the checkout."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP"))}
        program = [str(self.folder / "bin" / command[0]), *command[1:]]
        return subprocess.run(
            program, cwd=self.folder, env=clean, capture_output=True, text=True, timeout=120
        )

    def link(self, *packages: str) -> None:
        """Lend it packages of the running interpreter, and nothing else."""
        for package in packages:
            spec = find_spec(package)
            assert spec is not None, package
            source = Path(str(spec.origin)).parent
            for found in (source, source.parent / f"{package}.libs"):
                if found.is_dir():
                    (self.site_packages / found.name).symlink_to(found)

    def install(self, wheel: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, timeout=120)


def make_environment(folder: Path, *packages: str) -> Environment:
    venv.create(folder, with_pip=False, symlinks=True)
    environment = Environment(folder)
    environment.link(*packages)
    return environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: list[str]) -> Message:
    (name,) = [n for n in names if n.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = make_environment(tmp_path_factory.mktemp("installed") / "venv", "numpy")
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    target = tmp_path_factory.mktemp("editable")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build_editable(str(target))
    environment = make_environment(target / "venv", "numpy", "editables")
    environment.install(target / name)
    return environment


def top_levels(names: list[str]) -> set[str]:
    """The names an installation adds to the top level, its own metadata apart."""
    tops = {name.split("/", 1)[0] for name in names}
    return {top for top in tops if not top.endswith(".dist-info")}


def requirements(metadata: Message, extra: str | None) -> set[str]:
    """The projects that ``pip install mlm-spec`` or ``mlm-spec[extra]`` asks for by name."""
    found = set()
    for line in metadata.get_all("Requires-Dist") or []:
        marked = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if (marked[1] if marked else None) == extra:
            match = re.match(r"[A-Za-z0-9._-]+", line)
            assert match is not None
            found.add(match[0].lower().replace("_", "-"))
    return found


def package_files(folder: Path) -> set[str]:
    """Everything of a package that has to travel, relative to its parent."""
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_four_packages_and_nothing_else(names: list[str]) -> None:
    assert top_levels(names) == set(FOLDERS)


def test_a_stray_folder_in_a_wheel_is_seen() -> None:
    names = ["mlm_spec/a.py", "docs/x.md", "backends/mlm_torch/a.py", "m-1.dist-info/RECORD"]
    assert top_levels(names) == {"mlm_spec", "docs", "backends"}


@pytest.mark.parametrize("package", FOLDERS)
def test_the_wheel_holds_every_file_of_a_package(package: str, names: list[str]) -> None:
    files = package_files(FOLDERS[package])
    assert f"{package}/py.typed" in files
    assert files - set(names) == set()


def test_the_wheel_carries_the_specification(wheel: Path, names: list[str]) -> None:
    chapters = {p.name: p.read_bytes() for p in (ROOT / "docs" / "spec").glob("*.md")}
    assert len(chapters) >= 8
    with zipfile.ZipFile(wheel) as archive:
        carried = {
            name.removeprefix("mlm_spec/_text/"): archive.read(name)
            for name in names
            if name.startswith("mlm_spec/_text/") and name.endswith(".md")
        }
    assert carried == chapters


def test_the_wheel_carries_both_licenses(names: list[str], metadata: Message) -> None:
    carried = {name.split(".dist-info/licenses/")[1] for name in names if "/licenses/" in name}
    assert carried == {"LICENSE", "LICENSES/Apache-2.0.txt", "LICENSES/CC-BY-4.0.txt"}
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-4.0"


def test_the_base_installation_requires_numpy_alone(metadata: Message) -> None:
    assert requirements(metadata, None) == {"numpy"}


def test_the_conformance_extra_pulls_no_framework(metadata: Message) -> None:
    wanted = requirements(metadata, "conformance")
    assert "hypothesis" in wanted
    assert wanted & {*FRAMEWORKS, "jaxlib", "keras"} == set()


def test_a_framework_among_the_requirements_is_seen() -> None:
    text = 'Requires-Dist: numpy\nRequires-Dist: torch>=2; extra == "conformance"\n\n'
    parsed = email.message_from_string(text)
    assert requirements(parsed, None) == {"numpy"}
    assert requirements(parsed, "conformance") == {"torch"}


def test_the_pins_cover_every_direct_requirement() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    extras = PROJECT["optional-dependencies"].values()
    direct = [line for group in (PROJECT["dependencies"], *extras) for line in group]
    wanted = {re.split(r"[<>=!~ ]", line)[0].lower().replace("_", "-") for line in direct}
    assert wanted - pinned == set()


def test_the_citation_has_the_version_of_the_package() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {PROJECT['version']}\n" in text
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_numpy_is_all_that_the_environment_of_these_tests_has(installed: Environment) -> None:
    probe = "import importlib.util as u; print([bool(u.find_spec(n)) for n in {}])"
    names = ["numpy", "mlm_spec", "hypothesis", "pytest", "rich", "torch", "jax", "ml_dtypes"]
    done = installed.run("python", "-c", probe.format(names))
    assert done.stdout.strip() == str([True, True] + [False] * 6)


def test_the_reference_imports_with_numpy_alone(installed: Environment) -> None:
    done = installed.run("python", "-c", "import mlm_spec; print(mlm_spec.__version__)")
    assert (done.returncode, done.stdout.strip()) == (0, PROJECT["version"]), done.stderr


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("list",), "MLM-OBJ-1"),
        (("show", "MLM-OBJ-1"), "MLM-OBJ-1"),
        (("cite",), "mlm-spec"),
    ],
)
def test_the_text_can_be_read_with_numpy_alone(
    installed: Environment, call: tuple[str, ...], expected: str
) -> None:
    done = installed.run("mlm-spec", *call)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_check_without_the_extra_says_how_to_install_it(installed: Environment) -> None:
    done = installed.run("mlm-spec", "check", "numpy")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "mlm-spec[conformance]" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_editable_install_adds_the_four_packages_and_no_generic_name(
    editable: Environment,
) -> None:
    probe = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    generic = ["backends", "docs", "conformance", "tests", "benchmarks"]
    done = editable.run("python", "-c", probe.format([*FOLDERS, *generic]))
    assert done.stdout.strip() == str(list(FOLDERS)), done.stderr


def test_an_editable_install_reads_the_text_of_the_checkout(editable: Environment) -> None:
    probe = "import mlm_spec; from mlm_spec.text import load; print(len(load()), mlm_spec.__file__)"
    done = editable.run("python", "-c", probe)
    assert done.returncode == 0, done.stderr
    count, file = done.stdout.strip().split(" ", 1)
    assert Path(file) == ROOT / "mlm_spec" / "__init__.py"
    assert int(count) >= 8
