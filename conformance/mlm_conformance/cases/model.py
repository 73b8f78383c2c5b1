"""Cases: plain arrays and numbers, all that one check needs to run.

A case is built from a few parameters that Hypothesis draws, and from nothing else; afterwards
it stands alone, can be made smaller, and goes to a file as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec import MaskingPolicy

__all__ = [
    "BadCallCase",
    "Case",
    "HeadCase",
    "LossCase",
    "MaskCase",
    "OrderCase",
    "PolicyCase",
    "SampleCase",
    "SampleParallelCase",
    "SampleWordsCase",
    "ScoreCase",
    "StatusCase",
    "WordsCase",
    "candidates",
]

Array = NDArray[Any]


def _upstream(weights: Array | None, selected: Array) -> NDArray[np.float64]:
    return np.ones(int(selected.sum())) if weights is None else weights[selected].astype(np.float64)


def _rows(tokens: Array) -> str:
    return "B={} T={}".format(*tokens.shape)


def _fields(case: object, *names: str) -> dict[str, Any]:
    """Some fields of a case by name: the arguments of its port, which take the fields' names."""
    return {name: getattr(case, name) for name in names}


@dataclass(frozen=True, slots=True)
class MaskCase:
    """Arguments of ``mask``; ``salt`` seeds what a theorem chooses (an order, a cut)."""

    tokens: Array
    sequence_id: Array
    position: Array
    word_id: Array | None
    eligible: Array
    policy: MaskingPolicy
    seed: int
    epoch: int
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        about = ("sequence_id", "position", "word_id", "eligible")
        return _fields(self, "tokens", *about, "policy", "seed", "epoch")

    def __str__(self) -> str:
        law = type(self.policy.selection).__name__
        vocab = self.policy.vocab_size
        return f"{_rows(self.tokens)} V={vocab} {law} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class ScoreCase:
    """Arguments of ``score``."""

    logits: Array
    targets: Array
    selected: Array
    weights: Array | None
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        return _fields(self, "logits", "targets", "selected", "weights")

    @property
    def upstream(self) -> NDArray[np.float64]:
        """The weights of the selected positions, ones where there are none: float64 (N,)."""
        return _upstream(self.weights, self.selected)

    def __str__(self) -> str:
        rows, columns, vocab = self.logits.shape
        shape = f"B={rows} T={columns} V={vocab} N={int(self.selected.sum())}"
        return f"{shape} {self.logits.dtype.name} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class HeadCase:
    """Arguments of ``head``."""

    hidden: Array
    weight: Array
    bias: Array | None
    targets: Array
    selected: Array
    weights: Array | None
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        return _fields(self, "hidden", "weight", "bias", "targets", "selected", "weights")

    @property
    def upstream(self) -> NDArray[np.float64]:
        """The weights of the selected positions, ones where there are none: float64 (N,)."""
        return _upstream(self.weights, self.selected)

    def __str__(self) -> str:
        rows, columns, width = self.hidden.shape
        shape = f"B={rows} T={columns} d={width} V={len(self.weight)} N={int(self.selected.sum())}"
        return f"{shape} {self.hidden.dtype.name} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class LossCase:
    """Logits and labels; the check says which reduction it looks at."""

    logits: Array
    labels: Array
    ignore_index: int = -100
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with, all of the batch in one call."""
        count = int((self.labels != self.ignore_index).sum())
        return {**_fields(self, "logits", "labels", "ignore_index"), "num_items": count}

    def __str__(self) -> str:
        rows, columns, vocab = self.logits.shape
        count = int((self.labels != self.ignore_index).sum())
        shape = f"B={rows} T={columns} V={vocab} N={count}"
        return f"{shape} {self.logits.dtype.name} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class SampleCase:
    """Arguments of ``sample``, for maskers with random numbers of their own."""

    tokens: Array
    eligible: Array
    policy: MaskingPolicy
    n: int
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        return _fields(self, "tokens", "eligible", "policy", "n")

    def __str__(self) -> str:
        return f"{_rows(self.tokens)} n={self.n} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class SampleWordsCase:
    """Arguments of ``sample_words``, for maskers that know words."""

    tokens: Array
    eligible: Array
    word_id: Array
    policy: MaskingPolicy
    n: int
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        return _fields(self, "tokens", "eligible", "word_id", "policy", "n")

    def __str__(self) -> str:
        return f"{_rows(self.tokens)} n={self.n} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class SampleParallelCase:
    """Arguments of ``sample_parallel``; ``n`` copies of the rows make one batch."""

    tokens: Array
    eligible: Array
    policy: MaskingPolicy
    epochs: int
    workers: int
    ranks: int
    n: int = 1
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        rows = _fields(self, "tokens", "eligible")
        many = {name: np.tile(array, (self.n, 1)) for name, array in rows.items()}
        return {**many, **_fields(self, "policy", "epochs", "workers", "ranks")}

    def __str__(self) -> str:
        rows, columns = self.tokens.shape
        many = f"epochs={self.epochs} workers={self.workers} ranks={self.ranks}"
        return f"B={rows * self.n} T={columns} {many} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class WordsCase:
    """Arguments of ``random_words``: uint32 (n, 4) each."""

    key: Array
    counter: Array
    about: str = ""

    def __str__(self) -> str:
        return f"n={len(self.key)} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class OrderCase:
    """Arguments of ``order``; ``salt`` seeds what a theorem chooses (the cuts)."""

    position: int
    number: int
    count: int
    seed: int
    salt: int = 0
    about: str = ""

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        return _fields(self, "position", "number", "count", "seed")

    def __str__(self) -> str:
        run = f"position={self.position} number={self.number} count={self.count} seed={self.seed}"
        return f"{run} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class PolicyCase:
    """Fields of a policy, and whether they are one."""

    fields: dict[str, Any]
    valid: bool
    about: str = ""

    def __str__(self) -> str:
        return f"{'valid' if self.valid else 'invalid'} policy: {self.about}"


@dataclass(frozen=True, slots=True)
class BadCallCase:
    """One bad call of a port: its arguments, the error it must give, and a good call.

    ``where`` is what the error's message has to name, such as ``targets``.
    """

    port: str
    arguments: dict[str, Any]
    error: str
    where: str
    good: dict[str, Any] = field(default_factory=dict)
    about: str = ""

    def __str__(self) -> str:
        return f"{self.port} with {self.about}"


@dataclass(frozen=True, slots=True)
class StatusCase:
    """One call of a step, and the bits of the status word it must return."""

    port: str
    arguments: dict[str, Any]
    status: int
    about: str = ""

    def __str__(self) -> str:
        return f"{self.port} with {self.about}"


Case = (
    MaskCase
    | ScoreCase
    | HeadCase
    | LossCase
    | SampleCase
    | SampleWordsCase
    | SampleParallelCase
    | WordsCase
    | OrderCase
    | PolicyCase
    | BadCallCase
    | StatusCase
)


def candidates(
    case: MaskCase | SampleCase | SampleWordsCase | SampleParallelCase,
) -> NDArray[np.bool_]:
    """What may be selected, bool (B, T): eligible, and no special id."""
    able: NDArray[np.bool_] = case.eligible & ~np.isin(case.tokens, case.policy.special_ids)
    return able
