"""The port `order`: the reference, both backends and the text's transcription give one run."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from mlm_conformance import transcription
from mlm_jax import JaxPort
from mlm_torch.port import TorchPort

from mlm_spec import port
from mlm_spec.errors import InputError, SeedError

PORTS = {"reference": port, "torch": TorchPort(), "jax": JaxPort()}


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize(
    "run",
    [
        (0, 0, 3, 1),
        (4, 4, 5, 7),
        (3, 30, 7, 2**63 + 1),
        (3, 9, 1, 5),
        ((2**33 + 1) * 65 + 60, 20, 65, 2**40 + 3),
        (0, 720, 720, 207),  # two of them have one first word
    ],
)
def test_a_run_is_that_of_the_text(name: str, run: tuple[int, int, int, int]) -> None:
    found: Any = PORTS[name].order(*run)  # type: ignore[attr-defined]
    fields = found if isinstance(found, dict) else found._asdict()
    wanted = np.array(transcription.sequences_at(*run), np.int64).reshape(-1, 2)
    assert list(fields) == ["epoch", "sequence"]
    for column, array in enumerate(fields.values()):
        assert array.dtype == np.int64
        assert array.tolist() == wanted[:, column].tolist()


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        ((-1, 2, 3, 1), InputError, "position is -1; expected 0 or more"),
        ((0, -2, 3, 1), InputError, "number is -2; expected 0 or more"),
        ((0, 2, 0, 1), InputError, "count is 0; expected"),
        ((0, 2, 3.0, 1), InputError, "count is 3.0 (float); expected an integer"),
        ((0, 2, 3, 2**64), SeedError, "seed is 18446744073709551616"),
    ],
)
def test_bad_calls_say_what_is_wrong(
    name: str, run: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        PORTS[name].order(*run)  # type: ignore[attr-defined]
