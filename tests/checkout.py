"""What the tests of the project itself read: the checkout, its packages, its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FOLDERS", "FRAMEWORKS", "ROOT", "name", "project_files"]

ROOT = Path(__file__).resolve().parent.parent

FOLDERS = {
    "mlm_spec": ROOT / "mlm_spec",
    "mlm_torch": ROOT / "backends" / "mlm_torch",
    "mlm_jax": ROOT / "backends" / "mlm_jax",
    "mlm_conformance": ROOT / "conformance" / "mlm_conformance",
}
"""The import packages of the distribution."""

FRAMEWORKS = ("torch", "jax", "cupy", "tensorflow")

_MADE = {"__pycache__", "build", "dist", "mlm-spec-failures"}


def project_files(*suffixes: str) -> Iterator[Path]:
    """The project's own files, in order; hidden folders but .ci, and what tools made, are not."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(
            f for f in folders if f not in _MADE and (f == ".ci" or not f.startswith("."))
        )
        for file in sorted(files):
            if not suffixes or file.endswith(suffixes):
                yield Path(folder) / file


def name(path: Path) -> str:
    """A path as a reader of the project writes it."""
    return path.relative_to(ROOT).as_posix()
