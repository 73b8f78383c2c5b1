"""Named arrays in a safetensors file: read without trust, written whole or not at all.

    8 bytes    N, the length of the header, little-endian
    N bytes    the header: a JSON object {name: {"dtype", "shape", "data_offsets"}} and, under
               "__metadata__", texts by name; padded with spaces to a multiple of 8
    the rest   the arrays, little-endian, in C order, without gaps

Nothing in such a file is ever executed, and no length in it is believed before it has been compared
with the size of the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import CheckpointError, DTypeError

__all__ = ["DTYPE_NAMES", "little_endian", "read_tensors", "strict_json", "write_tensors"]

Path = str | os.PathLike[str]

_LONGEST_HEADER = 100_000_000  # the format's own limit
_ITEM = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip
DTYPE_NAMES = {np.dtype(kind).name: name for name, kind in _ITEM.items() if name != "BF16"}


class _Place(NamedTuple):
    """Where an array lies in the part behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays of a file, in the order in which they lie in it, and its texts.

    Parameters
    ----------
    path : of a regular file.

    Returns
    -------
    New arrays in the dtypes of the file (bfloat16, which NumPy lacks, as float32, exactly), and the
    mapping "__metadata__", empty if there is none.

    Raises
    ------
    CheckpointError : no such file, or one that is not whole and exact in this format.

    Source: chapter CKP.  Bound: exact.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait, a device never end
            raise CheckpointError(_name(path), "no regular file", "a file of tensors")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, start = _header(path, file, size)
            metadata = _metadata(path, header.pop("__metadata__", {}))
            places = _places(path, header, size - start)
            return {p.name: _tensor(path, file, p) for p in places}, metadata
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_name(path), f"unreadable ({error})", "a file of tensors") from error


def _header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header as JSON, and where the arrays start."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        got = f"{length} bytes long in a file of {size}" if size >= 8 else f"cut off after {size}"
        most = min(max(size - 8, 0), _LONGEST_HEADER)
        raise CheckpointError(f"{_name(path)}: header", got, f"at most {most} bytes")
    text = file.read(length)
    where = f"{_name(path)}: header"
    if len(text) < length or not text.startswith(b"{"):
        raise CheckpointError(where, f"{text[:16]!r} …", "a JSON object")
    header = strict_json(where, text)
    if not isinstance(header, dict):
        raise CheckpointError(where, f"a {type(header).__name__}", "a JSON object")
    return header, 8 + length


def strict_json(where: str, text: bytes | str) -> Any:
    """JSON as the standard has it: each name once, no NaN, no infinity, UTF-8.

    Raises
    ------
    CheckpointError.

    Source: RFC 8259.  Bound: exact.

    >>> strict_json("header", '{"a": [1, 2]}')
    {'a': [1, 2]}
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(where, f"with {twice!r} twice", "each name once")
        return found

    def constant(word: str) -> NoReturn:
        raise CheckpointError(where, f"with the number {word}", "JSON, which has no such number")

    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=once, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(where, f"not JSON ({error})"[:200], "JSON in UTF-8") from error


def _metadata(path: Path, given: Any) -> dict[str, str]:
    where = f"{_name(path)}: __metadata__"
    if not isinstance(given, dict):
        raise CheckpointError(where, f"a {type(given).__name__}", "an object of texts")
    for name, value in given.items():
        if not isinstance(value, str):
            raise CheckpointError(f"{where}.{name}", repr(value)[:80], "a text")
    return given


def _places(path: Path, header: dict[str, Any], size: int) -> list[_Place]:
    """Where the arrays lie; together they fill ``size`` bytes, without gap or overlap."""
    places = sorted(
        (_place(f"{_name(path)}: {name}", name, entry) for name, entry in header.items()),
        key=lambda place: (place.begin, place.end),
    )
    here = 0
    for place in places:
        if place.begin != here:
            where = f"{_name(path)}: {place.name}"
            kind = "overlapping" if place.begin < here else "behind a gap"
            raise CheckpointError(where, f"at byte {place.begin}, {kind}", f"at byte {here}")
        here = place.end
    if here != size:
        raise CheckpointError(_name(path), f"of {size} bytes of tensors", f"{here} bytes of them")
    return places


def _place(where: str, name: str, entry: Any) -> _Place:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(where, repr(entry)[:80], "dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM:
        raise CheckpointError(where, f"of dtype {dtype!r}"[:80], "one of " + ", ".join(_ITEM))
    if not _naturals(shape):
        raise CheckpointError(where, f"of shape {shape!r}"[:80], "a list of integers from 0 on")
    if not _naturals(offsets) or len(offsets) != 2:
        raise CheckpointError(where, f"at {offsets!r}"[:80], "two offsets in bytes")
    wanted = math.prod(shape) * np.dtype(_ITEM[dtype]).itemsize
    if offsets[1] - offsets[0] != wanted:
        got = f"{offsets[1] - offsets[0]} bytes long"
        raise CheckpointError(where, got, f"{wanted} bytes, {dtype} of shape {tuple(shape)}"[:200])
    return _Place(name, dtype, tuple(shape), *offsets)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _tensor(path: Path, file: BinaryIO, place: _Place) -> NDArray[Any]:
    """The next array of the file; its place has been checked against the file's size."""
    wanted = place.end - place.begin
    data = file.read(wanted)
    if len(data) < wanted:  # somebody cut the file in the meantime
        where = f"{_name(path)}: {place.name}"
        raise CheckpointError(where, f"cut off after {len(data)} bytes", f"{wanted} bytes")
    found = np.frombuffer(data, _ITEM[place.dtype]).reshape(place.shape)
    if place.dtype == "BF16":
        return (found.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return found.astype(found.dtype.newbyteorder("="))


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write a file so that at every moment ``path`` is whole: the old one or the new one.

    The bytes go to a temporary name beside it and are forced to the disk, the name is changed in
    one step, and the folder is forced to the disk.  Temporary files that a killed process left are
    removed first; so of two processes that write one path at once, one may be refused.

    Parameters
    ----------
    path : in a folder that exists.
    tensors : float64, float32, float16 or integer arrays by name.
    metadata : texts by name.

    Raises
    ------
    DTypeError : a dtype that the format has no name for.
    CheckpointError : it cannot be written; what was at ``path`` is intact.

    Source: chapter CKP.  Bound: exact; the same arguments give the same bytes.
    """
    head = _encoded_header(tensors, metadata)
    temporary = ""
    try:
        name = os.path.realpath(path)  # a link stays a link
        folder, base = os.path.split(name)
        temporary = os.path.join(folder, f".{base}.{secrets.token_hex(8)}.tmp")
        for leftover in _leftovers(folder, base):
            os.unlink(leftover)
        _write(temporary, head, tensors)
        os.replace(temporary, name)
        _force_folder(folder)
    except (OSError, ValueError) as error:
        got = f"not written ({error})"
        raise CheckpointError(_name(path), got, "a folder with room, to write into") from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.unlink(temporary)  # there is none after a success


def _encoded_header(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    here = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype.name not in DTYPE_NAMES:
            known = ", ".join(sorted(DTYPE_NAMES))
            raise DTypeError(name, f"of dtype {tensor.dtype}", f"one of {known}")
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [here, here + tensor.nbytes],
        }
        here += tensor.nbytes
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(temporary: str, head: bytes, tensors: Mapping[str, NDArray[Any]]) -> None:
    with open(temporary, "xb") as file:
        file.write(head)
        for name in sorted(tensors):
            file.write(little_endian(tensors[name]))
        file.flush()
        os.fsync(file.fileno())


def little_endian(tensor: NDArray[Any]) -> memoryview:
    """The bytes of an array, little-endian and in C order, copied only where they must be.

    Source: chapter CKP.  Bound: exact.

    >>> bytes(little_endian(np.array([[1, 2]], np.uint16)))
    b'\\x01\\x00\\x02\\x00'
    """
    flat = np.ascontiguousarray(tensor).reshape(-1)
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).view(np.uint8).data


def _leftovers(folder: str, base: str) -> Iterator[str]:
    pattern = re.compile(rf"\.{re.escape(base)}\.[0-9a-f]{{16}}\.tmp")
    for entry in os.listdir(folder):
        if pattern.fullmatch(entry):
            yield os.path.join(folder, entry)


def _force_folder(folder: str) -> None:
    """A change of name is on the disk only when the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _name(path: Path) -> str:
    return str(os.fspath(path))
