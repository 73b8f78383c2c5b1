"""One call of a target, watched.  The child process and ``--in-process`` share this code."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import platform
import random
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.buffers import Buffers
from mlm_conformance.kept import KeptResults
from mlm_conformance.layouts import laid_out
from mlm_conformance.ports import MalformedAnswer, normalise
from mlm_conformance.resolve import (
    DeviceMissing,
    FrameworkMissing,
    TargetError,
    UnknownTarget,
    claims,
)
from mlm_conformance.sessions import Sessions
from mlm_conformance.wire import WireError, carried, encode
from mlm_spec import errors

__all__ = [
    "carried_reply",
    "describe",
    "encode_reply",
    "failure",
    "placed",
    "reply_to",
    "serve_call",
]

_LONGEST = 2**16  # characters of a text in a reply
_TRACEBACK_LINES = 20
_PART = 2**17  # bytes
_Sent = TypeVar("_Sent")


def describe(name: str, target: object) -> dict[str, Any]:
    """The reply to ``hello`` of a target that was resolved."""
    versions = getattr(target, "versions", None)
    known = versions if isinstance(versions, Mapping) else {}
    reduction = getattr(target, "loss_reduction", None)
    declared = getattr(target, "accumulation", None)
    return {
        "name": name,
        "claims": list(claims(target)),
        "loss_reduction": reduction if isinstance(reduction, str) else None,
        "accumulation": None if declared is None else str(declared),
        "versions": {str(key): str(value) for key, value in known.items()},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def failure(error: Exception) -> dict[str, Any]:
    """The reply to ``hello`` of a target that could not be resolved."""
    kinds = {
        FrameworkMissing: "FrameworkMissing",
        DeviceMissing: "DeviceMissing",
        UnknownTarget: "UnknownTarget",
    }
    detail = error.detail if isinstance(error, TargetError) else ""
    message = error.message if isinstance(error, TargetError) else str(error)
    kind = kinds.get(type(error), "TargetError")
    return {"failed": {"kind": kind, "message": message, "detail": detail[-_LONGEST:]}}


def reply_to(
    target: object,
    hello: Mapping[str, Any],
    request: Mapping[str, Any],
    buffers: Buffers,
    kept: KeptResults,
    sessions: Sessions,
) -> dict[str, Any]:
    """The reply to one request, ``hello`` or ``call``; its arrays are put into the buffers."""
    if request.get("do") == "hello":
        return dict(hello)
    if request.get("do") != "call":
        return {"malformed": f"the request {request.get('do')!r}; expected hello, call or bye"}
    return serve_call(
        target,
        request["port"],
        placed(buffers, request["port"], request["args"], str(request.get("layout") or "")),
        measure_memory=bool(request.get("measure_memory")),
        random_state=bool(request.get("random_state")),
        kept=kept if request.get("keep_results") else None,
        layout=str(request.get("layout") or ""),
        sessions=sessions,
    )


def placed(
    buffers: Buffers, port: str, arguments: Mapping[str, Any], layout: str
) -> dict[str, Any]:
    """The arguments where those of earlier calls lay, or in the layout that is asked for."""
    return laid_out(arguments, layout) if layout else buffers.place(port, arguments)


def encode_reply(reply: Mapping[str, Any]) -> list[bytes | memoryview]:
    """The frame of a reply, or, if no frame can carry it, of one that says so."""
    return _sent(encode, reply)


def carried_reply(reply: Mapping[str, Any]) -> Any:
    """The reply as it arrives, with no frame between, where both ends are in one process."""
    return _sent(carried, reply)


def _sent(how: Callable[[Mapping[str, Any]], _Sent], reply: Mapping[str, Any]) -> _Sent:
    try:
        return how(reply)
    except WireError as error:
        return how({"malformed": f"an answer that cannot be sent: {error}"})


def serve_call(
    target: object,
    port: str,
    arguments: Mapping[str, Any],
    *,
    measure_memory: bool = False,
    random_state: bool = False,
    kept: KeptResults | None = None,
    layout: str = "",
    sessions: Sessions | None = None,
) -> dict[str, Any]:
    """Call one port and say what became of it.

    Parameters
    ----------
    target : the target.
    port : a port that it has.
    arguments : by name; arrays that the target may modify.
    measure_memory : also report ``peak_growth``, in bytes.
    random_state : also report ``global_random_advanced``.
    kept : also report ``overwritten``: which results of the call before are others now.
    layout : how the arrays lie, where that was asked for; reported back.
    sessions : those that are open in this process; None: none is.

    Returns
    -------
    The reply: ``result``, ``raised`` or ``malformed``; ``mutated``, ``seconds`` (MLM-ERR-9,
    MLM-COR-9, MLM-COR-10, MLM-OBJ-14, MLM-RNG-4, MLM-HED-8, MLM-CKP-8 rest on these).
    """
    watched = {n: v for n, v in arguments.items() if isinstance(v, np.ndarray | Mapping | list)}
    before = {name: _snapshot(value) for name, value in watched.items()}
    states = _GlobalRandomStates() if random_state else None
    resident = _reset_peak() if measure_memory else None
    called = (sessions or Sessions()).method(target, port)
    reply = _attempt(called, port, arguments, kept)
    if measure_memory:
        reply["peak_growth"] = _growth_since(resident)
    if states is not None:
        reply["global_random_advanced"] = states.advanced()
    if layout:
        reply["layout"] = layout
    reply["mutated"] = [name for name, v in watched.items() if not _is_same(v, before[name])]
    return reply


def _attempt(
    called: Callable[..., Any], port: str, arguments: Mapping[str, Any], kept: KeptResults | None
) -> dict[str, Any]:
    reply: dict[str, Any]
    started = time.perf_counter()
    try:
        found = called(**arguments)
        # An asynchronous framework has computed nothing before its arrays are asked for.
        reply = {"result": normalise(port, found)}
        if kept is not None:
            reply["overwritten"] = kept.overwritten(port)
            kept.keep(port, found)
    except MalformedAnswer as error:
        reply = {"malformed": str(error)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a target must not end its host
        reply = {"raised": _describe_error(error)}
    return {**reply, "seconds": time.perf_counter() - started}


def _snapshot(value: object) -> object:
    """A copy, to be compared with later."""
    if isinstance(value, np.ndarray):
        return value.copy(order="C")
    return copy.deepcopy(value)


def _is_same(value: object, snapshot: Any) -> bool:
    """Whether ``value`` is as it was.  Bytes, not numbers: NaN equals NaN, -0.0 is not 0.0."""
    if isinstance(value, Mapping):
        return list(value) == list(snapshot) and all(_is_same(value[k], snapshot[k]) for k in value)
    if isinstance(value, list):
        return len(value) == len(snapshot) and all(map(_is_same, value, snapshot))
    if not isinstance(value, np.ndarray):
        return bool(value == snapshot)
    if (value.shape, value.dtype) != (snapshot.shape, snapshot.dtype):
        return False
    now, before = _bytes_of(value), _bytes_of(snapshot)
    # By parts that stay in the cache, instead of another copy of all.
    parts = [slice(i, i + _PART) for i in range(0, len(now), _PART)]
    return all(now[part].tobytes() == before[part].tobytes() for part in parts)


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _describe_error(error: BaseException) -> dict[str, Any]:
    classes = [_class_name(c) for c in type(error).__mro__ if c is not object]
    lines = _told(error)
    return {
        "type": classes[0],
        "classes": classes,
        "message": _text(error),
        **{part: _part(error, part) for part in ("where", "got", "expected")},
        "traceback": "\n".join(lines[-_TRACEBACK_LINES:])[-_LONGEST:],
    }


def _told(error: BaseException) -> list[str]:
    """The lines of its traceback."""
    told = traceback.TracebackException.from_exception(error)
    for frame in told.stack:
        frame.colno = frame.end_colno = None  # finding what to underline takes longer than a call
    return "".join(told.format()).splitlines()


def _class_name(kind: type) -> str:
    """Bare for builtins and the documented errors, else with the module."""
    if kind.__module__ == "builtins" or getattr(errors, kind.__name__, None) is kind:
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"


def _part(error: BaseException, name: str) -> str | None:
    value = getattr(error, name, None)
    return None if value is None else _text(value)


def _text(value: object) -> str:
    try:
        return str(value)[:_LONGEST]
    except Exception as error:  # an exception whose text raises is still an exception
        return f"(no text: its __str__ raised {type(error).__name__})"


class _GlobalRandomStates:
    """Python's and NumPy's global random states, around one call.

    For the call they are others than before, or a target that seeds them in every call would find
    them as it left them.
    """

    def __init__(self) -> None:
        self._former = random.getstate(), np.random.get_state(legacy=False)
        random.random()
        np.random.random()  # this very state
        self._moved = self._now()

    def advanced(self) -> bool:
        """Whether the call changed one of them; where it did not, they are what they were."""
        if self._now() != self._moved:
            return True
        random.setstate(self._former[0])
        np.random.set_state(self._former[1])
        return False

    @staticmethod
    def _now() -> object:
        """As something that compares."""
        return random.getstate(), _frozen(np.random.get_state(legacy=False))


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return value.tobytes() if isinstance(value, np.ndarray) else value


def _reset_peak() -> int | None:
    """Forget the peak of the resident memory; what is resident now, in bytes (Linux).

    Memory that the allocator keeps for later is given back first, or a call that uses it again
    would seem to need none.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # proc(5): resets the high water mark to what is resident now
    except OSError:
        return None
    return _memory("VmRSS")


def _growth_since(resident: int | None) -> int | None:
    peak = _memory("VmHWM")
    return None if resident is None or peak is None else max(0, peak - resident)


def _memory(field: str) -> int | None:
    """A line of ``/proc/self/status``, in bytes.  The kernel counts by batches of pages."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(f"{field}:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
