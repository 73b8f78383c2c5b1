"""Frames: how one message crosses a pipe.

    4 bytes   b"MLM1"
    4 bytes   length of the header, uint32, little-endian
    header    UTF-8 JSON; an array is {"$array": index, "dtype": name, "shape": [...]}
    payload   the arrays' bytes, C order, little-endian, by ascending index, nothing between them

Three more markers make JSON exact: ``{"$float": "nan" | "inf" | "-inf"}``, ``{"$policy": {...}}``
for a `MaskingPolicy`, and ``{"$map": [[key, value], ...]}`` for a mapping that plain JSON would
change (a key that is no text, or that begins with ``$``).  A tuple arrives as a list, a NumPy
scalar as an array of shape ().  ``docs/protocol.md`` describes all of it for other languages.

>>> from io import BytesIO
>>> pipe = BytesIO()
>>> write_frame(pipe, {"do": "hello", "device": "cpu"})
>>> pipe.getvalue()
b'MLM1\\x1d\\x00\\x00\\x00{"do":"hello","device":"cpu"}'
>>> _ = pipe.seek(0)
>>> read_frame(pipe)
{'do': 'hello', 'device': 'cpu'}
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeGuard

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import PolicyError
from mlm_spec.policy import MaskingPolicy

__all__ = [
    "DTYPES",
    "MAGIC",
    "MAX_HEADER",
    "MAX_PAYLOAD",
    "Sink",
    "Source",
    "TruncatedError",
    "WireError",
    "carried",
    "encode",
    "read_frame",
    "send",
    "write_frame",
]

MAGIC = b"MLM1"
MAX_HEADER = 16 * 2**20  # bytes; the arrays are not in the header
MAX_PAYLOAD = 4 * 2**30  # bytes of all arrays of one frame
_SMALL = 2**16  # bytes; below this one write of everything is cheaper than several
_MAX_RANK = 32

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "bfloat16": np.dtype(ml_dtypes.bfloat16),
        **{
            name: np.dtype(name)
            for name in (
                *("bool", "int8", "int16", "int32", "int64"),
                *("uint8", "uint16", "uint32", "uint64"),
                *("float16", "float32", "float64", "complex64", "complex128"),
            )
        },
    }
)

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ARRAYS = (np.ndarray, np.generic)
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class WireError(Exception):
    """Bytes that are no frame, or a message that no frame can carry."""


class TruncatedError(WireError):
    """The source ended inside a frame."""


class Source(Protocol):
    """Where frames come from: an unbuffered or buffered binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Sink(Protocol):
    """Where frames go."""

    def write(self, buffer: bytes | memoryview, /) -> int | None: ...


# ---------------------------------------------------------------------------------- writing


def write_frame(sink: Sink, message: object) -> None:
    """Write one message.  A `WireError` comes before the first byte is written."""
    send(sink, encode(message))


def send(sink: Sink, buffers: Iterable[bytes | memoryview]) -> None:
    """Write all of ``buffers``, however many writes that takes."""
    for buffer in buffers:
        rest = memoryview(buffer)
        while len(rest):
            rest = rest[sink.write(rest) or 0 :]


def encode(message: object) -> list[bytes | memoryview]:
    """The bytes of one frame, as buffers to be written one after the other.

    Raises
    ------
    WireError : a value, or an element type, that is not in the protocol; more bytes than a
        frame holds.
    """
    arrays: list[NDArray[Any]] = []
    plain = _plain(message, arrays)
    header = json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()
    payload = sum(array.nbytes for array in arrays)
    if len(header) > MAX_HEADER:
        raise WireError(f"a header of {len(header)} bytes; at most {MAX_HEADER} are allowed")
    if payload > MAX_PAYLOAD:
        raise WireError(f"arrays of {payload} bytes; at most {MAX_PAYLOAD} are allowed")
    head = MAGIC + struct.pack("<I", len(header)) + header
    views = [array.reshape(-1).view(np.uint8).data for array in arrays]
    if payload <= _SMALL:
        return [b"".join((head, *views))]
    return [head, *views]


def _plain(value: object, arrays: list[NDArray[Any]]) -> object:
    """``value`` as JSON data; its arrays are appended to ``arrays``."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of a class of its own, or NumPy's: the text in it
    if isinstance(value, _ARRAYS):
        return _describe(np.asarray(value), arrays)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, Mapping):
        return _plain_mapping(value, arrays)
    if isinstance(value, (list, tuple)):
        return [_plain(item, arrays) for item in value]
    if isinstance(value, MaskingPolicy):
        return {"$policy": _plain(value.to_mapping(), arrays)}
    raise WireError(f"a {type(value).__module__}.{type(value).__qualname__} cannot be carried")


def _plain_mapping(value: Mapping[Any, object], arrays: list[NDArray[Any]]) -> dict[str, object]:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {str.__str__(key): _plain(item, arrays) for key, item in value.items()}
    pairs = [[_plain(key, arrays), _plain(item, arrays)] for key, item in value.items()]
    return {"$map": pairs}


def _describe(array: NDArray[Any], arrays: list[NDArray[Any]]) -> dict[str, object]:
    # The name is slow to come by; that of a dtype of the table is at hand.
    name = _NAMES.get(array.dtype) or array.dtype.name
    dtype = DTYPES.get(name)
    if dtype is None:
        raise WireError(
            f"an array of dtype {name} cannot be carried; expected one of {', '.join(DTYPES)}"
        )
    # The dtype of the table, so that big-endian arrays arrive as what they mean.
    arrays.append(np.asarray(array, dtype=dtype, order="C"))
    return {"$array": len(arrays) - 1, "dtype": name, "shape": list(array.shape)}


# ---------------------------------------------------------------------------------- reading


def read_frame(source: Source) -> Any:
    """Read one message.

    Returns
    -------
    The message.  Its arrays are fresh, writable and in C order.

    Raises
    ------
    EOFError : the source ended where a frame could have begun.
    TruncatedError : it ended elsewhere.
    WireError : what came is not a frame; the text says what came.
    """
    start = bytearray(8)
    got = _fill(source, start)
    if not got:
        raise EOFError("no further frame")
    if not MAGIC.startswith(bytes(start[: min(got, 4)])):
        raise WireError(f"a frame begins with {MAGIC!r}; got {bytes(start[:got])!r}")
    _whole("its first 8 bytes", got, 8)
    (length,) = struct.unpack("<I", start[4:])
    if length > MAX_HEADER:
        raise WireError(f"a header of {length} bytes; at most {MAX_HEADER} are allowed")
    header = bytearray(length)
    _whole("its header", _fill(source, header), length)
    message, arrays = _parse(header)
    for index, array in enumerate(arrays):
        view = array.reshape(-1).view(np.uint8)
        _whole(f"array {index}", _fill(source, view.data), array.nbytes)
        _require_bools(index, array)
    return message


def carried(message: object) -> Any:
    """The message as it arrives at the other end, by no way of bytes: for one process.

    Raises
    ------
    WireError : as `encode`, though there is no limit to its size, and as `read_frame`.

    >>> carried({"a tuple": (1, float("inf")), "a scalar": np.float32(0.5)})
    {'a tuple': [1, inf], 'a scalar': array(0.5, dtype=float32)}
    """
    arrays: list[NDArray[Any]] = []
    plain = _plain(message, arrays)
    for index, array in enumerate(arrays):
        _require_bools(index, array)
    return _arrived(plain, arrays)


def _arrived(plain: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(plain, list):
        return [_arrived(item, arrays) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "$array" in plain:
        return arrays[plain["$array"]].copy()
    fields = {key: _arrived(item, arrays) for key, item in plain.items()}
    marker = next(iter(fields), "")
    return _meant(marker, fields) if marker.startswith("$") else fields


def _require_bools(index: int, array: NDArray[Any]) -> None:
    """A truth value is one of two bytes."""
    if array.dtype != np.bool_ or not array.size:
        return
    highest = array.view(np.uint8).max()
    if highest > 1:
        raise WireError(f"array {index} of dtype bool holds the byte {highest}; expected 0 or 1")


def _fill(source: Source, buffer: bytearray | memoryview) -> int:
    """Read until ``buffer`` is full or the source ends; the number of bytes read."""
    view, got = memoryview(buffer), 0
    while got < len(view):
        count = source.readinto(view[got:])
        if not count:
            break
        got += count
    return got


def _whole(what: str, got: int, expected: int) -> None:
    if got < expected:
        raise TruncatedError(f"a frame ends inside {what}: got {got} of {expected} bytes")


class _Arrays(dict[int, NDArray[Any]]):
    """By number, and how many bytes they have together."""

    nbytes = 0


def _parse(header: bytearray) -> tuple[Any, list[NDArray[Any]]]:
    """The message, with arrays that are still to be filled, and these arrays in order."""
    arrays = _Arrays()
    try:
        message = json.loads(
            header.decode(),
            object_pairs_hook=partial(_revive, arrays),
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise WireError(f"a header that is not JSON ({error}): {bytes(header[:80])!r}") from None
    if sorted(arrays) != list(range(len(arrays))):
        raise WireError(f"arrays numbered {sorted(arrays)}; expected 0, 1, 2 and so on")
    return message, [arrays[index] for index in range(len(arrays))]


def _refuse_constant(text: str) -> NoReturn:
    raise WireError(f"the number {text} in a header; expected a {{'$float': ...}}")


def _revive(arrays: _Arrays, pairs: list[tuple[str, Any]]) -> Any:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise WireError(f"a key twice in one object: {[key for key, _ in pairs]}")
    if fields.keys() == {"$array", "dtype", "shape"}:
        return _allocate(arrays, fields["$array"], fields["dtype"], fields["shape"])
    marker = next((key for key in fields if key.startswith("$")), None)
    return fields if marker is None else _meant(marker, fields)


def _meant(marker: str, fields: dict[str, Any]) -> Any:
    """What an object with a marker stands for, unless it is an array."""
    revive = _MARKERS.get(marker) if len(fields) == 1 else None
    if revive is None:
        raise WireError(f"an unknown object {_short(fields)}; keys with $ belong to the protocol")
    try:
        return revive(fields[marker])
    except (PolicyError, KeyError, TypeError, ValueError) as error:
        raise WireError(f"{_short(fields)} has no meaning: {error!r}") from None


def _mapping(pairs: list[list[Any]]) -> dict[Any, Any]:
    return {key: value for key, value in list(pairs)}  # noqa: C416 - a pair is two, not a mapping


_MARKERS: Mapping[str, Callable[[Any], Any]] = {
    "$float": _FLOATS.__getitem__,
    "$policy": MaskingPolicy.from_mapping,
    "$map": _mapping,
}


def _allocate(arrays: _Arrays, index: object, name: object, shape: object) -> NDArray[Any]:
    """An empty array for one descriptor, once the limits allow it."""
    if not _natural(index) or index in arrays:
        raise WireError(f"an array numbered {index!r}; expected each of 0, 1, 2 and so on once")
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise WireError(f"dtype {name!r}; expected one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(map(_natural, shape)):
        raise WireError(f"shape {_short(shape)}; expected at most {_MAX_RANK} sizes")
    size = arrays.nbytes + math.prod(shape) * dtype.itemsize
    if size > MAX_PAYLOAD:
        raise WireError(f"arrays of {size} bytes; at most {MAX_PAYLOAD} are allowed")
    try:
        array = np.empty(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise WireError(f"an array of shape {shape} and dtype {name}: {error}") from None
    arrays[index], arrays.nbytes = array, size
    return array


def _natural(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
