"""A target that is a program of its own: ``exec:python score_program.py``.

It speaks the frames of ``docs/protocol.md`` with nothing but the standard library, as a program
in any language would.  It has one port, `score`, for float64 logits, without the gradient.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from typing import Any, BinaryIO

FORMATS = {"float64": "d", "int64": "q", "int32": "i", "bool": "?", "float32": "f"}


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """One message; each array as (shape, flat list of numbers).  None at the end."""
    start = stream.read(8)
    if not start:
        return None
    magic, length = struct.unpack("<4sI", start)
    assert magic == b"MLM1", magic
    arrays: list[dict[str, Any]] = []

    def note(fields: dict[str, Any]) -> dict[str, Any]:
        if "$array" in fields:
            arrays.append(fields)
        return fields

    message: dict[str, Any] = json.loads(stream.read(length), object_hook=note)
    for fields in sorted(arrays, key=lambda fields: fields["$array"]):
        layout = f"<{math.prod(fields['shape'])}{FORMATS[fields['dtype']]}"
        fields["data"] = struct.unpack(layout, stream.read(struct.calcsize(layout)))
    return message


def write(stream: BinaryIO, message: dict[str, Any], payload: bytes = b"") -> None:
    header = json.dumps(message).encode()
    stream.write(b"MLM1" + struct.pack("<I", len(header)) + header + payload)
    stream.flush()


def score(args: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The fields of the result, and the bytes of its one array."""
    shape = args["logits"]["shape"]
    size = shape[-1]
    targets, selected = args["targets"]["data"], args["selected"]["data"]
    weights = args["weights"]["data"] if args["weights"] else [1.0] * len(targets)
    nats = [0.0] * len(targets)
    for i, target in enumerate(targets):
        if selected[i]:
            row = args["logits"]["data"][i * size : (i + 1) * size]
            top = max(row)
            nats[i] = row[target] - top - math.log(math.fsum(math.exp(x - top) for x in row))
    fields = {
        "log_likelihood": {"$array": 0, "dtype": "float64", "shape": shape[:-1]},
        "sum": math.fsum(w * x for w, x in zip(weights, nats, strict=True)),
        "count": sum(selected),
    }
    return fields, struct.pack(f"<{len(nats)}d", *nats)


def main() -> None:
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    print("score_program is ready", file=sys.stderr)
    while (request := read(source)) is not None and request["do"] != "bye":
        if request["do"] == "hello":
            if request["device"] != "cpu":
                message = f"device is {request['device']}; expected cpu"
                write(sink, {"failed": {"kind": "DeviceMissing", "message": message}})
                continue
            write(sink, {"name": "score_program", "claims": ["score"], "versions": {"toy": "1"}})
            continue
        if request["args"]["logits"]["dtype"] != "float64":
            where, expected = "logits", "an array of float64"
            got = request["args"]["logits"]["dtype"]
            error = {
                "type": "DTypeError",
                "classes": ["DTypeError", "InputError", "MlmSpecError", "ValueError"],
                "message": f"{where} is {got}; expected {expected}",
                "where": where,
                "got": got,
                "expected": expected,
            }
            write(sink, {"raised": error})
            continue
        fields, payload = score(request["args"])
        write(sink, {"result": fields}, payload)


if __name__ == "__main__":
    main()
