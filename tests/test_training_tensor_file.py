"""Files of tensors: read and written as the other implementation of the format does, and no byte
of a broken one is believed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from mlm_spec.errors import CheckpointError, DTypeError
from mlm_spec.training.tensor_file import read_tensors, strict_json, write_tensors

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8",
          "uint64", "uint32", "uint16", "uint8"]  # fmt: skip
METADATA = {"format": "one", "text": 'é "\\ \n', "": "empty name"}


def tensors() -> dict[str, np.ndarray]:
    """One of each dtype, with extreme values, and odd shapes and layouts."""
    found = {}
    for dtype in map(np.dtype, DTYPES):
        info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        found[f"of/{dtype}"] = np.array([[info.min, 0, 1], [info.max, 2, 3]], dtype)
    found["special"] = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    found["empty"] = np.zeros((3, 0, 2), np.float32)
    found["scalar"] = np.array(2.5)
    found["strided"] = np.arange(24.0).reshape(4, 6)[::2, ::-3].T
    found["big"] = np.arange(5.0).astype(">f8")
    return found


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype.name == b.dtype.name and (
        a.astype(a.dtype.newbyteorder("<")).tobytes()
        == b.astype(b.dtype.newbyteorder("<")).tobytes()
    )  # fmt: skip


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", tensors(), METADATA)
    found, metadata = read_tensors(str(tmp_path / "a"))
    assert metadata == METADATA
    assert list(found) == sorted(tensors())
    assert all(same(found[name], tensor) for name, tensor in tensors().items())
    assert all(tensor.flags.writeable for tensor in found.values())


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", tensors(), METADATA)
    turned = dict(reversed(tensors().items())), dict(reversed(METADATA.items()))
    write_tensors(tmp_path / "b", *turned)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_the_other_implementation_reads_what_is_written(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", tensors(), METADATA)
    found = safetensors.numpy.load_file(tmp_path / "a")
    assert found.keys() == tensors().keys()
    assert all(same(found[name], tensor) for name, tensor in tensors().items())
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        assert file.metadata() == METADATA


def test_what_the_other_implementation_writes_is_read(tmp_path: Path) -> None:
    given = {n: np.ascontiguousarray(t) for n, t in tensors().items() if n != "big"}
    safetensors.numpy.save_file(given, tmp_path / "a", metadata=METADATA)
    found, metadata = read_tensors(tmp_path / "a")
    assert metadata == METADATA
    assert found.keys() == given.keys()
    assert all(same(found[name], tensor) for name, tensor in given.items())


def test_bfloat16_is_read_as_the_float32_of_the_same_value(tmp_path: Path) -> None:
    given = np.array([1.5, -0.0, np.inf, 3e38, 1e-40], ml_dtypes.bfloat16)
    safetensors.numpy.save_file({"x": given}, tmp_path / "a")
    found, metadata = read_tensors(tmp_path / "a")
    assert same(found["x"], given.astype(np.float32))
    assert metadata == {}


def test_a_dtype_without_a_name_in_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DTypeError, match=r"^x is of dtype complex128; expected one of float16, "):
        write_tensors(tmp_path / "a", {"x": np.zeros(1, complex)}, {})
    assert os.listdir(tmp_path) == []


# Broken files -----------------------------------------------------------------------------------

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TWO = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}


def raw(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header and these bytes; ``length`` is what it says of its header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "header is cut off after 0"),
    "shorter than a length": (b"\0" * 7, "header is cut off after 7"),
    "a length of 2**60": (raw({}, length=2**60), "header is 1152921504606846976 bytes long"),
    "the longest length": (raw({}, length=2**64 - 1), "header is 18446744073709551615 bytes"),
    "one byte too long": (raw({"a": ONE}, length=999), "header is 999 bytes long in a file of"),
    "no header": (raw(b""), "header is b'' …; expected a JSON object"),
    "a list": (raw(b"[1]"), "header is b'[1]' …; expected a JSON object"),
    "spaces first": (raw(b" {}"), "header is b' {}' …; expected a JSON object"),
    "not JSON": (raw(b"{'a': 1}"), "header is not JSON"),
    "two values": (raw(b"{} {}"), "header is not JSON"),
    "zeros behind": (raw(b"{}\0"), "header is not JSON"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "header is not JSON"),
    "nested": (raw(b'{"a":' + b"[" * 200_000), "header is not JSON"),
    "a huge integer": (raw(b'{"a":' + b"9" * 9999 + b"}"), "header is not JSON"),
    "NaN": (raw(b'{"a": NaN}'), "header is with the number NaN"),
    "infinity": (raw(b'{"a": -Infinity}'), "header is with the number -Infinity"),
    "a name twice": (
        raw(b'{"a":%b,"a":%b}' % (json.dumps(ONE).encode(), json.dumps(TWO).encode()), b"\0" * 16),
        "header is with 'a' twice; expected each name once",
    ),
    "a field twice": (raw(b'{"a":{"dtype":"F32","dtype":"F64"}}'), "header is with 'dtype' twice"),
    "no object": (raw({"a": 3}), "a is 3; expected dtype, shape and data_offsets"),
    "a field less": (raw({"a": {"dtype": "F32", "shape": [2]}}), "expected dtype, shape and"),
    "a field more": (raw({"a": {**ONE, "x": 1}}, b"\0" * 8), "expected dtype, shape and"),
    "an unknown dtype": (raw({"a": {**ONE, "dtype": "F31"}}, b"\0" * 8), "of dtype 'F31'; exp"),
    "a list as dtype": (raw({"a": {**ONE, "dtype": ["F32"]}}, b"\0" * 8), "of dtype ['F32']"),
    "a negative axis": (raw({"a": {**ONE, "shape": [-2]}}, b"\0" * 8), "of shape [-2]"),
    "a true axis": (raw({"a": {**ONE, "shape": [True]}}, b"\0" * 8), "of shape [True]"),
    "half an axis": (raw({"a": {**ONE, "shape": [2.0]}}, b"\0" * 8), "of shape [2.0]"),
    "no shape": (raw({"a": {**ONE, "shape": 2}}, b"\0" * 8), "of shape 2"),
    "one offset": (raw({"a": {**ONE, "data_offsets": [8]}}, b"\0" * 8), "at [8]; expected two"),
    "half an offset": (raw({"a": {**ONE, "data_offsets": [0, 8.0]}}, b"\0" * 8), "at [0, 8.0]"),
    "backwards": (raw({"a": {**ONE, "data_offsets": [8, 0]}}, b"\0" * 8), "a is -8 bytes long"),
    "a huge shape": (
        raw({"a": {**ONE, "shape": [2**62, 2**62]}}, b"\0" * 8),
        "a is 8 bytes long; expected 85070591730234615865843651857942052864 bytes",
    ),
    "overlapping": (
        raw({"a": ONE, "b": {**TWO, "data_offsets": [4, 12]}}, b"\0" * 12),
        "b is at byte 4, overlapping; expected at byte 8",
    ),
    "the same place": (raw({"a": ONE, "b": ONE}, b"\0" * 8), "at byte 0, overlapping; expected at"),
    "a gap": (
        raw({"a": ONE, "b": {**TWO, "data_offsets": [12, 20]}}, b"\0" * 20),
        "b is at byte 12, behind a gap; expected at byte 8",
    ),
    "a gap at the start": (raw({"b": TWO}, b"\0" * 16), "b is at byte 8, behind a gap"),
    "bytes behind": (raw({"a": ONE}, b"\0" * 9), "of 9 bytes of tensors; expected 8 bytes"),
    "cut off": (raw({"a": ONE}, b"\0" * 7), "of 7 bytes of tensors; expected 8 bytes"),
    "far away": (
        raw({"a": {"dtype": "U8", "shape": [2**50], "data_offsets": [0, 2**50]}}),
        "of 0 bytes of tensors; expected 1125899906842624 bytes of them",
    ),
    "metadata as a list": (raw({"__metadata__": []}), "__metadata__ is a list; expected an object"),
    "metadata with a number": (
        raw({"__metadata__": {"a": 1}}),
        "__metadata__.a is 1; expected a t",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_with_the_place_of_the_fault(kind: str, tmp_path: Path) -> None:
    data, message = BROKEN[kind]
    (tmp_path / "a").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        read_tensors(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.where.startswith(str(tmp_path / "a"))
    assert peak < 64 * (len(data) + 2**16)  # of the order of the file, whatever it says of itself


def test_the_other_implementation_refuses_what_breaks_the_format(tmp_path: Path) -> None:
    """Ours is the stricter one: it also refuses what the other takes for a matter of taste."""
    lenient = set()
    for kind, (data, _) in BROKEN.items():
        (tmp_path / "a").write_bytes(data)
        try:
            safetensors.numpy.load_file(tmp_path / "a")
            lenient.add(kind)
        except (safetensors.SafetensorError, TypeError):
            assert kind  # refused
    assert lenient <= {"a name twice", "a field more", "spaces first"}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing", "No such file"),
        (".", "no regular file; expected a file of tensors"),
        ("pipe", "no regular file; expected a file of tensors"),
        ("a\0b", "null byte"),
        ("file/below", "Not a directory"),
    ],
)
def test_what_is_no_file_is_refused(place: str, message: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(raw({}))
    with pytest.raises(CheckpointError, match=message):
        read_tensors(str(tmp_path / place))


def test_a_file_that_shrinks_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tensors(tmp_path / "a", {"x": np.ones(4), "y": np.ones(2**17)}, {})
    real = strict_json

    def shrink(where: str, text: bytes | str) -> Any:
        os.truncate(tmp_path / "a", os.path.getsize(tmp_path / "a") - 8)
        return real(where, text)

    monkeypatch.setattr("mlm_spec.training.tensor_file.strict_json", shrink)
    with pytest.raises(
        CheckpointError, match=f"y is cut off after {2**20 - 8} bytes; expected {2**20} bytes"
    ):
        read_tensors(tmp_path / "a")


# Writing ----------------------------------------------------------------------------------------


def no_room(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_right(*_: object, **__: object) -> Any:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


FAILURES: list[tuple[str, Callable[..., Any], str]] = [
    ("os.fsync", no_room, "No space left on device"),
    ("os.replace", no_right, "Permission denied"),
    ("os.listdir", no_right, "Permission denied"),
    ("builtins.open", no_right, "Permission denied"),
    ("mlm_spec.training.tensor_file.little_endian", no_room, "No space left on device"),
]


@pytest.mark.parametrize(("call", "fault", "message"), FAILURES, ids=[f[0] for f in FAILURES])
def test_a_write_that_fails_leaves_what_was_there(
    call: str, fault: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    write_tensors(path, {"x": np.ones(3)}, {"which": "old"})
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call, fault)
        with pytest.raises(CheckpointError, match=f"not written .*{message}"):
            write_tensors(path, {"x": np.zeros(3)}, {"which": "new"})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("place", ["missing/a", "file/a", "folder", "a\0b"])
def test_a_place_that_cannot_be_written_is_an_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="not written"):
        write_tensors(str(tmp_path / place), {"x": np.ones(3)}, {})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    others = [".b.0123456789abcdef.tmp", ".a.tmp", ".a.0123456789abcdef.tmp.bak", "a.bak"]
    for name in (*others, ".a.0123456789abcdef.tmp", ".a.ffffffffffffffff.tmp"):
        (tmp_path / name).write_text("left")
    write_tensors(tmp_path / "a", {}, {})
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "a"])


def test_a_link_stays_a_link_to_what_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "there" / "a")
    write_tensors(tmp_path / "latest", {"x": np.ones(1)}, {})
    assert (tmp_path / "latest").is_symlink()
    assert read_tensors(tmp_path / "there" / "a")[0]["x"].tolist() == [1.0]


def test_bytes_and_the_folder_are_on_the_disk_around_the_change_of_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def rename(source: str, target: str) -> None:
        calls.append("replace")
        assert os.path.dirname(source) == os.path.dirname(target)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    write_tensors(tmp_path / "a", {"x": np.ones(1)}, {})
    assert calls == ["file", "replace", "folder"]
