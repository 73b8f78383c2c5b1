"""What a target said, as frozen data.  Here replies of any origin are read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlm_conformance.bounds.accumulation import Accumulation, AccumulationError
from mlm_conformance.ports import PORTS, REDUCTIONS, MalformedAnswer, normalise
from mlm_conformance.resolve import (
    DeviceMissing,
    FrameworkMissing,
    TargetError,
    UnknownTarget,
)

__all__ = ["Answer", "Hello", "Kind", "Raised", "read_answer", "read_hello"]

Kind = Literal["result", "raised", "malformed", "died", "timed_out"]


@dataclass(frozen=True, slots=True)
class Hello:
    """What a target says of itself.

    Attributes
    ----------
    name : as it was asked for, or as an ``exec:`` target calls itself.
    claims : the ports that it has.
    loss_reduction : ``"sum"``, ``"mean"``, ``"sum/num_items"``, or None without `loss`.
    accumulation : the class of its sums over the vocabulary, or None where it declares none.
    versions : names to versions, for reports.
    python, platform : of the process that runs it; "" where it says nothing.
    """

    name: str
    claims: tuple[str, ...]
    loss_reduction: str | None
    versions: Mapping[str, str]
    python: str
    platform: str
    accumulation: Accumulation | None = None


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that a call raised.

    Attributes
    ----------
    type : the name of its class: the bare name for a builtin and for a class of
        `mlm_spec.errors`, else with its module, so that a namesake is not taken for ours.
    classes : the names of all its classes, most special first.
    message : its text.
    where, got, expected : the three parts of an `mlm_spec.errors.MlmSpecError`, or None.
    traceback : its last 20 lines.
    """

    type: str
    classes: tuple[str, ...]
    message: str
    where: str | None
    got: str | None
    expected: str | None
    traceback: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one call.

    Attributes
    ----------
    kind : ``"result"``; ``"raised"``, an exception; ``"malformed"``, a result that is not one
        of the port; ``"died"`` and ``"timed_out"``, with the process.
    fields : of a result, as `mlm_conformance.ports.normalise` gives them; else empty.
    raised : the exception, for ``"raised"``.
    text : for ``"malformed"`` a sentence that names the port; for ``"died"`` and ``"timed_out"``
        what the process did, such as ``"ended with status 3"``; else "".
    mutated : the arguments that the call modified.
    seconds : in the target; until the end was noticed where it did not answer.
    peak_growth : bytes by which the resident memory of the process rose at its highest, or None
        where that was not asked for or cannot be known.  Memory of devices is not in it.
    global_random_advanced : whether a global random state (of Python, or NumPy's) changed; None
        where that was not asked for or is not known.
    overwritten : the results of the call before, where that was to be kept, that are others now;
        None where that was not asked for or is not known.
    layout : how the arrays of the call lay, where that was asked for and is known; else "".
    output : what the target printed since the last answer, at most the last 64 KiB.
    """

    kind: Kind
    fields: Mapping[str, Any] = field(default_factory=dict)
    raised: Raised | None = None
    text: str = ""
    mutated: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_growth: int | None = None
    global_random_advanced: bool | None = None
    overwritten: tuple[str, ...] | None = None
    layout: str = ""
    output: str = ""

    @property
    def not_implemented(self) -> bool:
        """Whether the target says that it has no such thing: `NotImplementedError`, or one of its
        subclasses."""
        return self.raised is not None and "NotImplementedError" in self.raised.classes


class _Unreadable(Exception):
    """A reply that is not of the protocol."""


def read_answer(port: str, reply: object, seconds: float, output: str) -> Answer:
    """The `Answer` in a reply to a call; a reply that is none is ``"malformed"``.

    Parameters
    ----------
    port : the port that was called.
    reply : the message that came.
    seconds : what the caller measured, used where the reply gives no time.
    output : what was printed meanwhile.
    """
    try:
        return _read(port, reply, seconds, output)
    except (MalformedAnswer, _Unreadable) as error:
        return Answer("malformed", text=str(error), seconds=seconds, output=output)


def _read(port: str, reply: object, seconds: float, output: str) -> Answer:
    parts = _mapping("a reply", reply)
    kinds = [kind for kind in ("result", "raised", "malformed") if kind in parts]
    if len(kinds) != 1:
        raise _Unreadable(
            f"{port}: a reply with {', '.join(map(str, parts)) or 'nothing'}; "
            "expected one of result, raised, malformed"
        )
    growth = parts.get("peak_growth")
    lost = parts.get("overwritten")
    advanced = parts.get("global_random_advanced")
    taken = parts.get("seconds")
    layout = parts.get("layout")
    return Answer(
        kind="result" if kinds == ["result"] else "raised" if kinds == ["raised"] else "malformed",
        fields=normalise(port, parts["result"]) if "result" in parts else {},
        raised=_read_raised(parts["raised"]) if "raised" in parts else None,
        text=str(parts.get("malformed", "")),
        mutated=_texts("mutated", parts.get("mutated", [])),
        seconds=float(taken) if isinstance(taken, int | float) else seconds,
        peak_growth=growth if isinstance(growth, int) else None,
        global_random_advanced=advanced if isinstance(advanced, bool) else None,
        overwritten=None if lost is None else _texts("overwritten", lost),
        layout=layout if isinstance(layout, str) else "",
        output=output,
    )


def _read_raised(value: object) -> Raised:
    parts = _mapping("raised", value)
    name = _text("raised.type", parts.get("type"))
    return Raised(
        type=name,
        classes=_texts("raised.classes", parts.get("classes", [name])),
        message=_text("raised.message", parts.get("message", "")),
        where=_optional("raised.where", parts.get("where")),
        got=_optional("raised.got", parts.get("got")),
        expected=_optional("raised.expected", parts.get("expected")),
        traceback=_text("raised.traceback", parts.get("traceback", "")),
    )


def read_hello(name: str, reply: object) -> Hello:
    """The `Hello` in a reply to ``hello``.

    Raises
    ------
    TargetError, UnknownTarget, FrameworkMissing, DeviceMissing : what the reply
        says went wrong, or a reply that is none.
    """
    try:
        parts = _mapping("a reply to hello", reply)
        if "failed" in parts:
            raise _failure(_mapping("failed", parts["failed"]))
        hello = Hello(
            name=_text("name", parts.get("name", name)),
            claims=_texts("claims", parts.get("claims")),
            loss_reduction=_optional("loss_reduction", parts.get("loss_reduction")),
            versions={
                str(k): str(v) for k, v in _mapping("versions", parts.get("versions", {})).items()
            },
            python=_text("python", parts.get("python", "")),
            platform=_text("platform", parts.get("platform", "")),
            accumulation=_accumulation(parts.get("accumulation")),
        )
        _check_claims(hello)
    except _Unreadable as error:
        raise TargetError(f"the target {name}: {error}") from None
    return hello


_FAILURES = {"FrameworkMissing": FrameworkMissing, "DeviceMissing": DeviceMissing}


def _failure(parts: Mapping[Any, Any]) -> Exception:
    kind = _text("failed.kind", parts.get("kind"))
    message = _text("failed.message", parts.get("message"))
    detail = _text("failed.detail", parts.get("detail", ""))
    if kind in _FAILURES:
        return _FAILURES[kind](message)
    if kind == "UnknownTarget":
        return UnknownTarget(message, detail)
    return TargetError(message, detail)


def _check_claims(hello: Hello) -> None:
    unknown = [port for port in hello.claims if port not in PORTS]
    if unknown or not hello.claims:
        got = ", ".join(unknown) or "nothing"
        raise _Unreadable(f"it claims {got}; expected some of {', '.join(PORTS)}")
    needed = {"loss", "head_loss"} & set(hello.claims)
    if needed and hello.loss_reduction not in REDUCTIONS:
        raise _Unreadable(
            f"its loss_reduction is {hello.loss_reduction!r}; "
            f"expected one of {', '.join(REDUCTIONS)}"
        )


def _accumulation(value: object) -> Accumulation | None:
    text = _optional("accumulation", value)
    try:
        return None if text is None else Accumulation.parse(text)
    except AccumulationError as error:
        raise _Unreadable(f"its accumulation is {error}") from None


def _mapping(what: str, value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise _Unreadable(f"{what} is {_short(value)}; expected an object")
    return value


def _texts(what: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Unreadable(f"{what} is {_short(value)}; expected a list of texts")
    return tuple(_text(what, item) for item in value)


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise _Unreadable(f"{what} is {_short(value)}; expected a text")
    return value


def _optional(what: str, value: object) -> str | None:
    return None if value is None else _text(what, value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
