"""Cases as JSON, and back: plain data that a person can read and edit.

Floats are written as Python writes them (the shortest text that reads back to the same number),
arrays as nested lists beside their dtype.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases import model
from mlm_conformance.cases.numbers import dtype_of
from mlm_conformance.cases.training import TrainingCase
from mlm_spec import MaskingPolicy

__all__ = ["CaseError", "decode_case", "encode_case"]

_KINDS = {
    kind.__name__: kind
    for kind in (
        model.MaskCase,
        model.ScoreCase,
        model.HeadCase,
        model.LossCase,
        model.SampleCase,
        model.SampleWordsCase,
        model.SampleParallelCase,
        model.WordsCase,
        model.OrderCase,
        model.PolicyCase,
        model.BadCallCase,
        model.StatusCase,
        TrainingCase,
    )
}
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64",
)  # fmt: skip


class CaseError(ValueError):
    """A file that holds no case; the message says where."""


def encode_case(case: model.Case | TrainingCase) -> dict[str, Any]:
    """A case as plain data."""
    values = {f.name: _encode(getattr(case, f.name)) for f in fields(case)}
    return {"kind": type(case).__name__, **values}


def decode_case(data: object) -> Any:
    """The case that `encode_case` wrote.

    Raises
    ------
    CaseError : the data is no case.
    """
    if not isinstance(data, dict) or data.get("kind") not in _KINDS:
        raise CaseError(f"case: expected an object with a kind among {', '.join(_KINDS)}")
    kind = _KINDS[data["kind"]]
    known = {f.name for f in fields(kind)}
    given = {name: value for name, value in data.items() if name != "kind"}
    if set(given) != known:
        odd = ", ".join(sorted(set(given) ^ known))
        raise CaseError(f"case: {odd} missing or unknown for a {kind.__name__}")
    return kind(**{name: _decode(name, value) for name, value in given.items()})


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            "dtype": value.dtype.name,
            "shape": list(value.shape),
            "values": _encode_values(value),
        }
    if isinstance(value, MaskingPolicy):
        return {"policy": value.to_mapping()}
    if isinstance(value, dict):
        return {"fields": [[name, _encode(v)] for name, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value.item() if isinstance(value, np.generic) else value


def _encode_values(array: NDArray[Any]) -> list[Any]:
    if array.dtype.name in ("float16", "bfloat16", "float32", "float64"):
        flat = array.astype(np.float64).reshape(-1).tolist()
        return [v if math.isfinite(v) else repr(v) for v in flat]
    values: list[Any] = array.reshape(-1).tolist()
    return values


def _decode(where: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(f"{where}[{i}]", v) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if set(value) == {"policy"}:
        return MaskingPolicy.from_mapping(value["policy"])
    if set(value) == {"fields"}:
        return {str(name): _decode(f"{where}.{name}", v) for name, v in value["fields"]}
    if set(value) == {"float"}:
        return float(value["float"])
    if set(value) == {"dtype", "shape", "values"}:
        return _decode_array(where, value)
    raise CaseError(f"{where}: an object with {', '.join(value)} is nothing known")


def _decode_array(where: str, value: dict[str, Any]) -> NDArray[Any]:
    if value["dtype"] not in _DTYPES:
        raise CaseError(f"{where}: dtype {value['dtype']!r}, expected one of {', '.join(_DTYPES)}")
    try:
        numbers = [float(v) if isinstance(v, str) else v for v in value["values"]]
        array = np.array(numbers, dtype=None if numbers else np.float64)
        return array.astype(dtype_of(value["dtype"])).reshape([int(n) for n in value["shape"]])
    except (TypeError, ValueError, OverflowError) as error:
        raise CaseError(f"{where}: {error}") from None
