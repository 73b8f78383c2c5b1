"""The examples in the docstrings of training run."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import mlm_spec.training

MODULES = [m.name for m in pkgutil.iter_modules(mlm_spec.training.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    module = import_module(f"mlm_spec.training.{name}")
    assert doctest.testmod(module).failed == 0


def test_there_are_examples() -> None:
    modules = [import_module(f"mlm_spec.training.{name}") for name in MODULES]
    assert sum(doctest.testmod(module).attempted for module in modules) > 20
