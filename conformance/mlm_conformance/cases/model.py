"""Cases: plain arrays and numbers, all that one check needs to run.

A case is built from a few parameters that Hypothesis draws, and from nothing else; afterwards
it stands alone, can be made smaller, and goes to a file as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlm_spec import MaskingPolicy

__all__ = [
    "BadCallCase",
    "Case",
    "HeadCase",
    "LossCase",
    "MaskCase",
    "PolicyCase",
    "SampleCase",
    "SampleParallelCase",
    "SampleWordsCase",
    "ScoreCase",
    "StatusCase",
    "WordsCase",
]

Array = NDArray[Any]


def _upstream(weights: Array | None, selected: Array) -> NDArray[np.float64]:
    return np.ones(int(selected.sum())) if weights is None else weights[selected].astype(np.float64)


def _rows(tokens: Array) -> str:
    return "B={} T={}".format(*tokens.shape)


class _CallCase:
    """A case that is one call: the fields in ``NAMES`` are the arguments of its port."""

    __slots__ = ()
    NAMES: ClassVar[tuple[str, ...]]

    def arguments(self) -> dict[str, Any]:
        """What the port is called with."""
        return {name: getattr(self, name) for name in self.NAMES}


@dataclass(frozen=True, slots=True)
class MaskCase(_CallCase):
    """Arguments of ``mask``; ``salt`` seeds what a theorem chooses (an order, a cut)."""

    NAMES = (
        *("tokens", "sequence_id", "position", "word_id", "eligible", "policy"),
        *("seed", "epoch"),
    )
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

    def __str__(self) -> str:
        law = type(self.policy.selection).__name__
        vocab = self.policy.vocab_size
        return f"{_rows(self.tokens)} V={vocab} {law} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class ScoreCase(_CallCase):
    """Arguments of ``score``."""

    NAMES = ("logits", "targets", "selected", "weights")
    logits: Array
    targets: Array
    selected: Array
    weights: Array | None
    salt: int = 0
    about: str = ""

    @property
    def upstream(self) -> NDArray[np.float64]:
        """The weights of the selected positions, ones where there are none: float64 (N,)."""
        return _upstream(self.weights, self.selected)

    def __str__(self) -> str:
        rows, columns, vocab = self.logits.shape
        shape = f"B={rows} T={columns} V={vocab} N={int(self.selected.sum())}"
        return f"{shape} {self.logits.dtype.name} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class HeadCase(_CallCase):
    """Arguments of ``head``."""

    NAMES = ("hidden", "weight", "bias", "targets", "selected", "weights")
    hidden: Array
    weight: Array
    bias: Array | None
    targets: Array
    selected: Array
    weights: Array | None
    salt: int = 0
    about: str = ""

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
        names = ("logits", "labels", "ignore_index")
        return {**{n: getattr(self, n) for n in names}, "num_items": count}

    def __str__(self) -> str:
        rows, columns, vocab = self.logits.shape
        count = int((self.labels != self.ignore_index).sum())
        shape = f"B={rows} T={columns} V={vocab} N={count}"
        return f"{shape} {self.logits.dtype.name} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class SampleCase(_CallCase):
    """Arguments of ``sample``, for maskers with random numbers of their own."""

    NAMES = ("tokens", "eligible", "policy", "n")
    tokens: Array
    eligible: Array
    policy: MaskingPolicy
    n: int
    salt: int = 0
    about: str = ""

    def __str__(self) -> str:
        return f"{_rows(self.tokens)} n={self.n} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class SampleWordsCase(_CallCase):
    """Arguments of ``sample_words``, for maskers that know words."""

    NAMES = ("tokens", "eligible", "word_id", "policy", "n")
    tokens: Array
    eligible: Array
    word_id: Array
    policy: MaskingPolicy
    n: int
    salt: int = 0
    about: str = ""

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
        rows = {n: np.tile(getattr(self, n), (self.n, 1)) for n in ("tokens", "eligible")}
        return {**rows, **{n: getattr(self, n) for n in ("policy", "epochs", "workers", "ranks")}}

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
    | PolicyCase
    | BadCallCase
    | StatusCase
)
