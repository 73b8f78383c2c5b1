"""Files that a session is to load: checkpoints of the suite's own making, and what looks like one.

Those of `broken` are no checkpoints, those of `foreign` are whole and say something else, and those
of `hostile` and `executing` want more of a reader than to be read.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLAIMED",
    "File",
    "boastful",
    "broken",
    "canonical",
    "checksum",
    "executing",
    "file_of",
    "foreign",
    "hostile",
    "parsed",
    "reordered",
]

Array = NDArray[Any]
Files = Iterator[tuple[str, bytes]]

#: What files of a few thousand bytes claim to hold: enough to be seen, not enough to harm.
CLAIMED = 2**27
_KINDS = {"float64": "F64", "float32": "F32"}
_DEEP = 100_000  # brackets, more than any stack of calls
_FLIPS = 24


@dataclass(frozen=True, slots=True)
class File:
    """A checkpoint in its parts.

    Attributes
    ----------
    texts : ``__metadata__``.
    entries : dtype, shape and data_offsets of each tensor by name.
    data : the bytes of the tensors.
    """

    texts: dict[str, str]
    entries: dict[str, dict[str, Any]]
    data: bytes

    def sealed(self, **texts: str) -> File:
        """With other texts, and the checksum of all it says."""
        told = {**self.texts, **texts}
        told.pop("sha256", None)
        return replace(self, texts={**told, "sha256": checksum(told, self.entries, self.data)})

    @property
    def header(self) -> str:
        """As JSON."""
        return json.dumps({"__metadata__": self.texts, **self.entries}, separators=(",", ":"))

    @property
    def content(self) -> bytes:
        """The whole file."""
        return _framed(self.header, self.data)


def file_of(texts: Mapping[str, str], tensors: Mapping[str, Array]) -> File:
    """A file of tensors, in order of name; its checksum among the texts."""
    entries: dict[str, dict[str, Any]] = {}
    parts, here = [], 0
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        end = here + tensor.nbytes
        kind, shape = _KINDS[tensor.dtype.name], list(tensors[name].shape)
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [here, end]}
        parts.append(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
        here = end
    return File(dict(texts), entries, b"".join(parts)).sealed()


def parsed(good: bytes) -> File:
    """The parts of a file that is whole."""
    (size,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + size])
    return File(header.pop("__metadata__"), header, good[8 + size :])


def checksum(metadata: Mapping[str, str], entries: Mapping[str, Any], data: bytes) -> str:
    """SHA-256 of the canonical [metadata, [[name, dtype, shape] …]] and the bytes, by name."""
    names = sorted(entries)
    table = [[name, entries[name]["dtype"], entries[name]["shape"]] for name in names]
    digest = hashlib.sha256(canonical([dict(metadata), table]).encode())
    for name in names:
        start, end = entries[name]["data_offsets"]
        digest.update(data[start:end])
    return digest.hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and without white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def reordered(file: File) -> bytes:
    """The same checkpoint: tensors and texts from last to first, and white space in its header."""
    names = sorted(file.entries, reverse=True)
    entries, parts, here = {}, [], 0
    for name in names:
        begin, end = file.entries[name]["data_offsets"]
        entries[name] = {**file.entries[name], "data_offsets": [here, here + end - begin]}
        parts.append(file.data[begin:end])
        here += end - begin
    texts = dict(sorted(file.texts.items(), reverse=True))
    header = json.dumps({**entries, "__metadata__": texts}, indent=1)
    return _framed(header, b"".join(parts))


def broken(good: bytes, rng: np.random.Generator | None = None) -> Files:
    """Files that are no checkpoints any more, by what is wrong with them."""
    file, size = parsed(good), struct.unpack("<Q", good[:8])[0]
    yield "nothing in it", b""
    yield "its header cut off", good[: 8 + size // 2]
    yield "its last byte cut off", good[:-1]
    yield "a byte more", good + b"\0"
    yield "text", b"# A page of text, and no tensors.\n" * 40
    for place in (0, len(file.data) // 2, len(file.data) - 1):
        yield f"a bit of byte {place} of the tensors flipped", _flipped(good, 8 + size + place, 0)
    if rng is not None:
        yield from _flips(good, rng)
    for what, change in {
        "another update": {"update": str(int(file.texts["update"]) + 1)},
        "another scale": {"loss_scale": "2.0"},
        "another position": {"position": str(int(file.texts["position"]) + 1)},
        "a newer version": {"format": "mlm-spec-checkpoint/2"},
    }.items():
        yield what, replace(file, texts={**file.texts, **change}).content
    bare = json.dumps(file.entries, separators=(",", ":"))
    yield "no metadata", _framed(bare, file.data)
    for name, texts in {
        "update": ("-1", "1.5", "", str(10**30)),
        "position": ("-1", "x"),
        "loss_scale": ("nan", "0.0", "-1.0", "1e400"),
    }.items():
        for text in texts:
            yield f"{name} {text!r}", file.sealed(**{name: text}).content


def _flips(good: bytes, rng: np.random.Generator) -> Files:
    """Bits anywhere: half of them in the header, which the others are too many to meet.

    Of its length only a low one: what else it may claim, `hostile` does.
    """
    (size,) = struct.unpack("<Q", good[:8])
    header = len(good[: 8 + size].rstrip(b" "))  # white space behind it means nothing
    places = [
        *rng.integers(8, header, _FLIPS // 2),
        *rng.integers(8 + size, len(good), _FLIPS // 2),
    ]
    yield "the length of its header less or more by 8", _flipped(good, 0, 3)
    for place in sorted({int(place) for place in places}):
        yield f"a bit of byte {place} flipped", _flipped(good, place, int(rng.integers(8)))


def _flipped(good: bytes, place: int, bit: int) -> bytes:
    flipped = bytearray(good)
    flipped[place] ^= 1 << bit
    return bytes(flipped)


def foreign(good: bytes) -> Files:
    """Whole files, with a right checksum, that say something else than a checkpoint here does."""
    file = parsed(good)
    yield "a newer version", file.sealed(format="mlm-spec-checkpoint/2").content
    yield "another format", file.sealed(format="something-else/1").content
    yield "a text that is unknown", file.sealed(note="").content
    some = {name: text for name, text in file.texts.items() if name != "position"}
    yield "a text missing", replace(file, texts=some).sealed().content
    last = max(file.entries, key=lambda name: int(file.entries[name]["data_offsets"][0]))
    rest, entry = {n: e for n, e in file.entries.items() if n != last}, file.entries[last]
    start, end = entry["data_offsets"]
    cut = file.data[:start]
    yield "a tensor missing", replace(file, entries=rest, data=cut).sealed().content
    yield (
        "an unknown tensor",
        replace(file, entries={**rest, "parameters/other": entry}).sealed().content,
    )
    more = {**file.entries, "parameters/other": {**entry, "data_offsets": [end, 2 * end - start]}}
    yield (
        "a tensor more",
        replace(file, entries=more, data=file.data + file.data[start:end]).sealed().content,
    )
    shape = {**rest, last: {**entry, "shape": [1, *entry["shape"]]}}
    yield "a tensor of another shape", replace(file, entries=shape).sealed().content
    narrow = np.frombuffer(file.data[start:end], "<f8").astype("<f4").tobytes()
    other = {**entry, "dtype": "F32", "data_offsets": [start, start + len(narrow)]}
    short = replace(file, entries={**rest, last: other}, data=cut + narrow)
    yield "a tensor of another dtype", short.sealed().content


def hostile(good: bytes) -> Files:
    """Files that claim what they have not, or say a thing twice."""
    file = parsed(good)
    yield "a header of 2^60 bytes", struct.pack("<Q", 2**60) + good[8:]
    yield "a header of 2^64 - 1 bytes", struct.pack("<Q", 2**64 - 1) + good[8:]
    name = min(file.entries, key=lambda n: int(file.entries[n]["data_offsets"][0]))
    entry = file.entries[name]
    for what, shape in {
        "2^60": [2**60],
        "2^64, which is 0 in 64 bits,": [2**32, 2**32],
        "-4": [-4],
    }.items():
        for offsets in (entry["data_offsets"], [0, 8 * 2**60]):
            other = {**entry, "shape": shape, "data_offsets": offsets}
            said = f"a tensor of {what} numbers in {offsets[1]} bytes"
            yield said, replace(file, entries={**file.entries, name: other}).content
    yield "a gap", _framed(_shifted(file, 8), b"\0" * 8 + file.data)
    yield "tensors that overlap", _overlapping(file)
    twice = f'"{name}":{json.dumps(entry)}'
    yield "a tensor twice", _framed(f"{file.header[:-1]},{twice}}}", file.data)
    said = '"update":' + json.dumps(file.texts["update"])
    yield "a text twice", _framed(file.header.replace(said, f"{said},{said}", 1), file.data)
    nan = file.header.replace('"shape":[', '"shape":[NaN,', 1)
    yield "NaN for a length", _framed(nan, file.data)
    yield "brackets without end", _framed('{"a":' + "[" * _DEEP, b"")
    yield "a text of brackets without end", file.sealed(encoder="[" * _DEEP).content
    layers = {**json.loads(file.texts["encoder"]), "num_hidden_layers": 10**5}
    yield "many layers", file.sealed(encoder=canonical(layers)).content


def boastful(good: bytes) -> Files:
    """Files of a few thousand bytes that claim to hold `CLAIMED`."""
    file = parsed(good)
    yield "a header", struct.pack("<Q", CLAIMED) + good[8:]
    last = max(file.entries, key=lambda name: int(file.entries[name]["data_offsets"][0]))
    start = file.entries[last]["data_offsets"][0]
    entry = {"dtype": "F64", "shape": [CLAIMED // 8], "data_offsets": [start, start + CLAIMED]}
    yield "a tensor", replace(file, entries={**file.entries, last: entry}).content


def _shifted(file: File, by: int) -> str:
    """The header, with all tensors so many bytes later."""
    entries = {
        name: {**entry, "data_offsets": [place + by for place in entry["data_offsets"]]}
        for name, entry in file.entries.items()
    }
    return replace(file, entries=entries).header


def _overlapping(file: File) -> bytes:
    """Two tensors of one size at one place, and a right checksum of what then is in them."""
    names = sorted(file.entries, key=lambda name: int(file.entries[name]["data_offsets"][0]))
    one, last = next(
        (n, names[-1])
        for n in names
        if file.entries[n]["shape"] == file.entries[names[-1]]["shape"]
    )
    place = file.entries[one]["data_offsets"]
    entries = {**file.entries, last: {**file.entries[last], "data_offsets": place}}
    data = file.data[: file.entries[last]["data_offsets"][0]]
    return replace(file, entries=entries, data=data).sealed().content


def executing(good: bytes, trace: Path) -> Files:
    """Files that leave a file at ``trace`` where what is in them is executed."""
    file, path = parsed(good), os.fspath(trace)
    # Written by hand, since nothing here reads or writes pickles: calls of `open` with "w".
    yield "a pickle of protocol 0", f"cio\nopen\n(V{path}\nVw\ntR.".encode("raw_unicode_escape")
    texts = b"".join(b"X" + struct.pack("<I", len(t)) + t for t in (path.encode(), b"w"))
    yield "a pickle of protocol 2", b"\x80\x02cio\nopen\n" + texts + b"\x86R."
    call = f"open({path!r}, 'w')"
    for name in ("update", "loss_scale", "encoder"):
        yield f"a call for its {name}", file.sealed(**{name: call}).content
    tag = f'!!python/object/apply:builtins.open [{json.dumps(path)}, "w"]'
    yield "an object of YAML for its training", file.sealed(training=tag).content


def _framed(header: str, data: bytes) -> bytes:
    text = header.encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data
