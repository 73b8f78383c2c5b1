"""The device that was asked for, or an error: there is no fallback."""

from __future__ import annotations

import torch

from mlm_spec.errors import DeviceError

__all__ = ["find_device"]


def find_device(name: str) -> torch.device:
    """The device called ``name``: "cpu", "cuda" or "cuda:1".

    Raises
    ------
    DeviceError : no such device here, or one of a kind that this backend does not support.

    >>> find_device("cpu")
    device(type='cpu')
    """
    present = ["cpu"]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        present += ["cuda", *(f"cuda:{i}" for i in range(count))]
    if name not in present:
        raise DeviceError("device", repr(name), "one that is here: " + ", ".join(present))
    return torch.device(name)
