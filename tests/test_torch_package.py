"""The PyTorch backend's devices, the arrays it takes, its exports and its examples."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import ml_dtypes
import mlm_torch
import numpy as np
import pytest
import torch
from mlm_torch.port import TorchPort, as_tensor
from torch_cases import PORT, logits_of

from mlm_spec.errors import DeviceError


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta", "", "mps"])
def test_an_absent_device_is_an_error_and_never_another_device(name: str) -> None:
    with pytest.raises(DeviceError, match="cpu"):
        TorchPort(device=name)


def test_cuda_without_a_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="'cuda'"):
        TorchPort(device="cuda")


def test_arrays_that_are_not_contiguous_not_native_or_read_only_are_taken() -> None:
    case = logits_of(np.dtype(np.float32), 9, 1)
    want = PORT.score(case.logits, case.targets, case.selected)
    wide = np.zeros((2, 3, 18), np.float32)
    wide[..., ::2] = case.logits
    targets = case.targets.astype(np.int32)
    targets.flags.writeable = False
    other_order = case.logits.astype(case.logits.dtype.newbyteorder())
    for logits in (wide[..., ::2], other_order):
        got = PORT.score(logits, targets, case.selected)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_tensor_shares_the_memory_of_its_array_so_that_a_change_would_be_seen() -> None:
    for dtype in (np.float32, ml_dtypes.bfloat16, np.int64, np.bool_):
        array = np.zeros((2, 3), dtype)
        as_tensor("x", array)[0, 1] = 1
        assert array[0, 1] == 1


def test_the_package_exports_what_it_says() -> None:
    assert sorted(mlm_torch.__all__) == mlm_torch.__all__
    assert all(getattr(mlm_torch, name) is not None for name in mlm_torch.__all__)
    assert PORT.versions["torch"] == torch.__version__


def test_the_examples_in_the_docstrings_run() -> None:
    ran = 0
    for module in pkgutil.iter_modules(mlm_torch.__path__):
        result = doctest.testmod(importlib.import_module(f"mlm_torch.{module.name}"))
        assert result.failed == 0, module.name
        ran += result.attempted
    assert ran > 0
