"""What the tests of messages share: a changed copy of an array, and the whole message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlm_spec import MlmSpecError

__all__ = ["Call", "assert_says", "put"]

Call = tuple[str, Callable[[], object]]


def put(array: np.ndarray, index: Any, value: object) -> np.ndarray:
    """A copy with another value at one place."""
    changed = array.copy()
    changed[index] = value
    return changed


def assert_says(message: str, call: Callable[[], object]) -> None:
    """The call raises, and says in full what was got, what was expected, and where."""
    with pytest.raises(MlmSpecError) as caught:
        call()
    assert f"{type(caught.value).__name__}: {caught.value}" == message
