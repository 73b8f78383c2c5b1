"""The ports a target may have, and how their answers are read.

A target is any object; the methods it has are what it claims.  `PORTS` lists, per method, the
arguments it is called with (by name) and the fields of its result.  The shapes and dtypes are
in ``docs/architecture.md``; the checks test them, nothing here does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.wire import DTYPES, WireError, encode
from mlm_spec.policy import MaskingPolicy

__all__ = [
    "OPENS",
    "PORTS",
    "REDUCTIONS",
    "SESSION",
    "DeviceSession",
    "Head",
    "HeadLoss",
    "HeadStep",
    "Loss",
    "MalformedAnswer",
    "Mask",
    "MaskStep",
    "Order",
    "Policy",
    "Port",
    "RaiseForStatus",
    "RandomWords",
    "ReplicaSession",
    "Sample",
    "SampleParallel",
    "SampleWords",
    "Score",
    "ScoreStep",
    "Session",
    "check_arguments",
    "form_of",
    "normalise",
]

_CARRIED = frozenset(DTYPES.values())
REDUCTIONS = ("sum", "mean", "sum/num_items")

_A = NDArray[Any]
_Maybe = NDArray[Any] | None


# fmt: off
class Mask(Protocol):
    def mask(self, tokens: _A, sequence_id: _A, position: _A, word_id: _Maybe, eligible: _A,
             policy: MaskingPolicy, seed: int, epoch: int) -> Any: ...

class Score(Protocol):
    def score(self, logits: _A, targets: _A, selected: _A, weights: _Maybe) -> Any: ...

class Head(Protocol):
    def head(self, hidden: _A, weight: _A, bias: _Maybe, targets: _A, selected: _A,
             weights: _Maybe) -> Any: ...

class Loss(Protocol):
    loss_reduction: str
    def loss(self, logits: _A, labels: _A, ignore_index: int, num_items: int | None) -> Any: ...

class HeadLoss(Protocol):
    loss_reduction: str
    def head_loss(self, hidden: _A, weight: _A, bias: _Maybe, labels: _A, ignore_index: int,
                  num_items: int | None) -> Any: ...

class Sample(Protocol):
    def sample(self, tokens: _A, eligible: _A, policy: MaskingPolicy, n: int) -> Any: ...

class SampleWords(Protocol):
    def sample_words(self, tokens: _A, eligible: _A, word_id: _A, policy: MaskingPolicy,
                     n: int) -> Any: ...

class SampleParallel(Protocol):
    def sample_parallel(self, tokens: _A, eligible: _A, policy: MaskingPolicy, epochs: int,
                        workers: int, ranks: int) -> Any: ...

class RandomWords(Protocol):
    def random_words(self, key: _A, counter: _A) -> Any: ...

class Policy(Protocol):
    def policy(self, fields: Mapping[str, Any]) -> Mapping[str, Any]: ...

class MaskStep(Protocol):
    def mask_step(self, tokens: _A, sequence_id: _A, position: _A, word_id: _Maybe, eligible: _A,
                  policy: MaskingPolicy, seed: int, epoch: int) -> Any: ...

class ScoreStep(Protocol):
    def score_step(self, logits: _A, targets: _A, selected: _A, weights: _Maybe,
                   capacity: int) -> Any: ...

class HeadStep(Protocol):
    def head_step(self, hidden: _A, weight: _A, bias: _Maybe, targets: _A, selected: _A,
                  weights: _Maybe, capacity: int) -> Any: ...

class Order(Protocol):
    def order(self, position: int, number: int, count: int, seed: int) -> Any: ...

class RaiseForStatus(Protocol):
    def raise_for_status(self, status: int, *, mean: bool = False) -> None: ...

class Session(Protocol):
    def session(self, encoder: Mapping[str, Any], training: Mapping[str, Any],
                parameters: Mapping[str, _A], policy: MaskingPolicy | None) -> Any: ...

class ReplicaSession(Protocol):
    def replica_session(self, encoder: Mapping[str, Any], training: Mapping[str, Any],
                        parameters: Mapping[str, _A], policy: MaskingPolicy | None, rank: int,
                        size: int, address: str, sharded: bool) -> Any: ...

class DeviceSession(Protocol):
    def device_session(self, encoder: Mapping[str, Any], training: Mapping[str, Any],
                       parameters: Mapping[str, _A], policy: MaskingPolicy | None, rows: int,
                       ids: int) -> Any: ...
# fmt: on


Answers = Literal["arrays", "names", "mapping", "nothing"]


@dataclass(frozen=True, slots=True)
class Port:
    """One method of a target.

    Attributes
    ----------
    arguments : name to whether the argument is required, in order.
    results : name to whether the field is required, in the order of a plain tuple.
    answers : ``"arrays"``: one array a field; ``"names"``: a mapping of whatever names to arrays;
        ``"mapping"``: plain data; ``"nothing"``: None.
    nested : the fields that hold a mapping of names to arrays each.
    """

    arguments: Mapping[str, bool]
    results: Mapping[str, bool]
    answers: Answers
    nested: frozenset[str] = frozenset()

    @property
    def bare(self) -> str | None:
        """The field that may be returned alone: the only required one, if there is one."""
        required = [name for name, needed in self.results.items() if needed]
        return required[0] if len(required) == 1 else None


def _port(arguments: str, results: str = "", answers: Answers = "arrays") -> Port:
    """A port from two lists of names: ``?`` marks what may be missing, ``/`` what holds names."""
    nested = frozenset(n.rstrip("/") for n in results.split() if n.endswith("/"))
    return Port(_names(arguments), _names(results.replace("/", "")), answers, nested)


def _names(text: str) -> Mapping[str, bool]:
    return MappingProxyType({n.rstrip("?"): not n.endswith("?") for n in text.split()})


_TOKENS = "tokens sequence_id position word_id eligible policy seed epoch"
_HEAD = "hidden weight bias targets selected weights"
_HEAD_GRADIENTS = "grad_hidden grad_weight grad_bias?"
_RUN = "encoder training parameters policy"
_OPENED = "session evaluate? gradients? step? parameters? state? save? load?"

PORTS: Mapping[str, Port] = MappingProxyType(
    {
        "mask": _port(_TOKENS, "inputs targets selected"),
        "score": _port("logits targets selected weights", "log_likelihood sum count grad_logits?"),
        "head": _port(_HEAD, f"sum count {_HEAD_GRADIENTS}"),
        "loss": _port("logits labels ignore_index num_items", "loss grad_logits?"),
        "head_loss": _port(
            "hidden weight bias labels ignore_index num_items",
            "loss grad_hidden? grad_weight? grad_bias?",
        ),
        "sample": _port("tokens eligible policy n", "inputs labels"),
        "sample_words": _port("tokens eligible word_id policy n", "inputs labels"),
        "sample_parallel": _port("tokens eligible policy epochs workers ranks", "inputs labels"),
        "random_words": _port("key counter", "words"),
        "policy": _port("fields", answers="mapping"),
        "mask_step": _port(_TOKENS, "inputs targets selected status"),
        "score_step": _port(
            "logits targets selected weights capacity", "sum count grad_logits status"
        ),
        "head_step": _port(f"{_HEAD} capacity", f"sum count {_HEAD_GRADIENTS} status"),
        "order": _port("position number count seed", "epoch sequence"),
        "raise_for_status": _port("status mean?", answers="nothing"),
        "session": _port(_RUN, _OPENED),
        "replica_session": _port(f"{_RUN} rank size address sharded", _OPENED),
        "device_session": _port(f"{_RUN} rows ids", _OPENED),
    }
)

#: Those that open a session: on one device, as one of several processes, on several devices.
OPENS = ("session", "replica_session", "device_session")

#: What an open session is asked; each takes its number.
SESSION: Mapping[str, Port] = MappingProxyType(
    {
        "session.evaluate": _port("session batches", "sum count"),
        "session.gradients": _port("session batches", "sum count gradients/"),
        "session.step": _port(
            "session batches sequences?", "loss? count norm? learning_rate? status update"
        ),
        "session.parameters": _port("session", answers="names"),
        "session.state": _port("session", "update exp_avg/ exp_avg_sq/ loss_scale position?"),
        "session.save": _port("session path", answers="nothing"),
        "session.load": _port("session path", answers="nothing"),
        "session.close": _port("session", answers="nothing"),
    }
)


def form_of(port: str) -> Port:
    """The form of a port, or of a call of a session, by name."""
    return PORTS[port] if port in PORTS else SESSION[port]


def check_arguments(port: str, claims: Sequence[str], arguments: Iterable[str]) -> None:
    """Refuse, with a `ValueError`, a call that the caller got wrong, before any target sees it."""
    needed = OPENS if port in SESSION else (port,)
    if not set(needed) & set(claims):
        raise ValueError(
            f"the target does not claim {' or '.join(needed)}, but {', '.join(claims)}"
        )
    given, known = set(arguments), form_of(port).arguments
    missing = [name for name, needed in known.items() if needed and name not in given]
    unknown = sorted(given.difference(known))
    if missing or unknown:
        raise ValueError(f"{port}: missing {missing}, unknown {unknown}; expected {list(known)}")


class MalformedAnswer(Exception):
    """A result that is not of the port's form: a field is missing, or is no array."""


def normalise(port: str, result: object) -> dict[str, Any]:
    """The fields of a result, whichever of the four forms it has.

    Parameters
    ----------
    port : a name of `PORTS` or of `SESSION`.
    result : a mapping, a named tuple, an object with attributes, or a plain tuple in order, in
        which trailing optional fields may be missing.  The only required field of a port may
        be returned alone (the scalar of ``loss``).

    Returns
    -------
    One NumPy array a field, or None for an optional one that is not there; a mapping of names to
    arrays where a field holds names.  For ``policy`` the plain data itself, for ``parameters`` of a
    session its names and their arrays, for ``raise_for_status`` nothing.

    Raises
    ------
    MalformedAnswer : a field is missing, unknown, or neither an array nor made into one by
        ``np.asarray``.  Shapes and element types are left to the checks, except those that no
        frame carries.
    """
    form = form_of(port)
    if form.answers == "nothing":
        if result is not None and result != {}:
            raise MalformedAnswer(f"{port}: answered {_kind(result)}; expected None")
        return {}
    if form.answers == "mapping":
        return _plain_data(port, result)
    if form.answers == "names":
        return _named(port, "the answer", result)
    found = _fields(port, form, result)
    return {name: _array(port, form, name, found.get(name)) for name in form.results}


# Things whose methods `sum` and `count` are no fields of a result.
_WITHOUT_FIELDS = (list, str, bytes, int, float, np.ndarray, np.generic)


def _fields(port: str, form: Port, result: object) -> Mapping[str, object]:
    if isinstance(result, Mapping):
        return _known(port, form, result)
    if isinstance(result, tuple):
        names = getattr(result, "_fields", None)
        if names is None:
            return _in_order(port, form, result)
        return _known(port, form, dict(zip(names, result, strict=True)))
    if result is not None and form.bare is not None and not hasattr(result, form.bare):
        return {form.bare: result}
    found = {name: getattr(result, name) for name in form.results if hasattr(result, name)}
    if not found or isinstance(result, _WITHOUT_FIELDS):
        raise MalformedAnswer(
            f"{port}: answered {_kind(result)}; expected a mapping, a named tuple, an object "
            f"with attributes or a tuple of {', '.join(form.results)}"
        )
    return found


def _known(port: str, form: Port, fields: Mapping[Any, object]) -> Mapping[str, object]:
    """``fields``, unless there is one that nobody would read: a misspelt gradient, say."""
    unknown = [str(name) for name in fields if name not in form.results]
    if unknown:
        raise MalformedAnswer(
            f"{port}: unknown field {', '.join(unknown)}; expected only {', '.join(form.results)}"
        )
    return fields


def _in_order(port: str, form: Port, result: tuple[object, ...]) -> Mapping[str, object]:
    names = list(form.results)
    least = max(i for i, name in enumerate(names, 1) if form.results[name])
    if not least <= len(result) <= len(names):
        wanted = f"{least}" if least == len(names) else f"{least} to {len(names)}"
        raise MalformedAnswer(
            f"{port}: a tuple of {len(result)}; expected {wanted}: {', '.join(names)}"
        )
    return dict(zip(names, result, strict=False))


def _named(port: str, what: str, value: object) -> dict[str, Any]:
    """A mapping of names to arrays, such as the gradients of parameters."""
    if not isinstance(value, Mapping):
        raise MalformedAnswer(
            f"{port}: {what} is {_kind(value)}; expected a mapping of names to arrays"
        )
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        raise MalformedAnswer(f"{port}: {what} names something {odd[0]!r}; expected texts")
    return {name: _as_array(port, f"{what}[{name!r}]", item) for name, item in value.items()}


def _array(port: str, form: Port, name: str, value: object) -> Any:
    if name in form.nested:
        return _named(port, name, value)
    if value is None and not form.results[name]:
        return None
    return _as_array(port, name, value)


def _as_array(port: str, name: str, value: object) -> NDArray[Any]:
    if type(value) is np.ndarray and value.dtype in _CARRIED:
        return value
    if value is None:
        raise MalformedAnswer(f"{port}: {name} is missing; expected a NumPy array")
    refusal = f"{port}: {name} is {_kind(value)}; expected a NumPy array"
    try:
        array = np.asarray(value)
    except Exception as error:
        raise MalformedAnswer(f"{refusal} ({type(error).__name__}: {error})") from None
    if array.dtype.name not in DTYPES:
        if isinstance(value, np.ndarray):
            raise MalformedAnswer(f"{refusal} of dtype {', '.join(DTYPES)}, not {array.dtype}")
        raise MalformedAnswer(refusal)
    return array


def _plain_data(port: str, result: object) -> dict[str, Any]:
    if not isinstance(result, Mapping):
        raise MalformedAnswer(f"{port}: answered {_kind(result)}; expected a mapping of fields")
    try:
        encode(result)
    except WireError as error:
        raise MalformedAnswer(f"{port}: {error}; expected plain data") from None
    return dict(result)


def _kind(value: object) -> str:
    """``None``, ``a list``, ``a some_module.SomeClass``."""
    if value is None:
        return "None"
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    name = f"{module}{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
