"""The JAX backend's devices, what it may import, and its exports."""

from __future__ import annotations

import ast
from pathlib import Path

import jax
import mlm_jax
import pytest

from mlm_spec.errors import DeviceError


@pytest.mark.parametrize("device", ["cpu:99", "abacus", "cpu:x"])
def test_an_absent_device_is_an_error_and_never_a_fallback(device: str) -> None:
    with pytest.raises(DeviceError, match=device):
        mlm_jax.JaxPort(device=device)


def test_cuda_is_there_or_refused() -> None:
    try:
        there = bool(jax.devices("cuda"))
    except RuntimeError:
        there = False
    if there:
        assert mlm_jax.JaxPort(device="cuda").versions["jax"] == jax.__version__
    else:
        with pytest.raises(DeviceError, match="cuda"):
            mlm_jax.JaxPort(device="cuda")


def test_the_backend_imports_only_types_errors_and_policies_of_the_specification() -> None:
    allowed = {
        "mlm_spec.batch",
        "mlm_spec.errors",
        "mlm_spec.policy",
        "mlm_spec.training.batch",
        "mlm_spec.training.config",
    }
    seen = set()
    for file in Path(mlm_jax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                seen.add(str(node.module))
            elif isinstance(node, ast.Import):
                seen.update(name.name for name in node.names)
    assert {name for name in seen if name.split(".")[0] == "mlm_spec"} == allowed
    assert not any(name.split(".")[0] in ("mlm_torch", "mlm_conformance", "torch") for name in seen)


def test_all_names_are_there() -> None:
    for name in mlm_jax.__all__:
        assert getattr(mlm_jax, name) is not None
