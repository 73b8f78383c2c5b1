"""The rows that a target is shown, and what it made of them.

Every call asks for one policy: Bernoulli 3/20, and 4/5, 1/10, 1/10 of mask id, random ids and kept
tokens.  A masker that has options for these takes them from the policy; what it has no option for
stays as it is.  Of the ids it may know which is which: ``special_ids`` ascending is padding,
unknown, beginning, end.  The mask id is not among them: some maskers take it for special by
themselves, and some only where their caller says so.  All positions are eligible, special tokens
and padding too.

Ordinary tokens are even where a word begins and odd where one goes on.  In calls of ``sample`` all
of them begin a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.answer import Answer
from mlm_conformance.cases.numbers import generator
from mlm_conformance.process import Target
from mlm_conformance.resolve import TargetError
from mlm_spec import Bernoulli, Corruption, MaskingPolicy, WholeWord

__all__ = [
    "BARE",
    "BRACKETED",
    "CLS",
    "MASK",
    "PAD",
    "POLICY",
    "PROBES",
    "SEP",
    "SPECIAL",
    "UNK",
    "Drawn",
    "Probe",
    "Seen",
    "observe",
    "shares",
]

PAD, UNK, CLS, SEP, MASK = SPECIAL = (0, 1, 2, 3, 15)
_BEGINS, _GOES_ON = np.arange(4, MASK, 2), np.arange(5, MASK, 2)

POLICY = MaskingPolicy(
    Bernoulli("3/20"),
    Corruption("4/5", "1/10", "1/10"),
    vocab_size=MASK + 1,
    mask_id=MASK,
    pad_id=PAD,
    special_ids=(PAD, UNK, CLS, SEP),
)

#: For maskers that refuse `POLICY`: by their names they always show the mask id, or mask words.
_OTHERS = (
    replace(POLICY, corruption=Corruption(1, 0, 0)),
    replace(POLICY, selection=WholeWord("3/20"), corruption=Corruption(1, 0, 0)),
)

#: Lengths of rows without special tokens, and of rows that begin with CLS and end with SEP.
BARE = (1, 2, 3, 5, 7, 10, 13, 20, 30, 40, 50, 64)
BRACKETED = (3, 4, 8, 10, 12, 20, 22, 30, 32, 50, 64)

_Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Probe:
    """One kind of row.

    Attributes
    ----------
    pattern : what stands at each position: ``c`` CLS, ``s`` SEP, ``p`` PAD, ``u`` UNK, ``m`` MASK,
        ``w`` the first piece of a word, ``-`` a further one.
    rows, n, calls : rows of a call, masks of each, and calls, each with other tokens.
    words : whether the target is told which pieces make a word.
    """

    pattern: str
    rows: int
    n: int
    calls: int = 1
    words: bool = False

    def tokens(self, seed: int, salt: int) -> _Array:
        """int64 (rows, T)."""
        fixed = {"c": CLS, "s": SEP, "p": PAD, "u": UNK, "m": MASK}
        draw, found = generator(seed, 9000 + salt), []
        for kind in self.pattern:
            ids = [fixed[kind]] if kind in fixed else _BEGINS if kind == "w" else _GOES_ON
            found.append(draw.choice(np.asarray(ids), size=self.rows))
        return np.stack(found, axis=1).astype(np.int64)

    @property
    def word_id(self) -> _Array:
        """int32 (rows, T): each token that goes on has the number of the one before it."""
        begins = [kind != "-" for kind in self.pattern]
        row = np.cumsum(begins, dtype=np.int32) - 1
        return np.broadcast_to(row, (self.rows, len(row))).copy()


def _counted() -> Iterator[tuple[str, Probe]]:
    for length in BARE:
        yield f"bare {length}", Probe("w" * length, 16, 16)
    for length in BRACKETED:
        yield f"bracketed {length}", Probe(f"c{'w' * (length - 2)}s", 16, 16)


#: What the target is called with, in this order.
PROBES: Mapping[str, Probe] = {
    **dict(_counted()),
    "kinds": Probe("cwwwwwwws", 24, 64, calls=8),
    "short": Probe("cwws", 16, 64),
    "long": Probe("w" * 64, 16, 128),
    "unknown": Probe("cwwwuwwwwuwws", 16, 64),
    "mask": Probe("cwwwmwwwwmwws", 16, 64),
    "padded": Probe("cwwwwwwwspppppp", 16, 64),
    "words": Probe("cw-w--ww-w-www--w-ww-ww-wws", 16, 128, words=True),
    "large word": Probe("cw--s", 16, 64, words=True),
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a target made of the rows of a probe, R = n · rows of them.

    Attributes
    ----------
    pattern : of the probe, one character a position.
    tokens, inputs : int64 (R, T).
    selected : bool (R, T).
    """

    pattern: str
    tokens: _Array
    inputs: _Array
    selected: _Array

    def at(self, kinds: str) -> _Array:
        """The positions of these kinds: bool (T,)."""
        return np.array([kind in kinds for kind in self.pattern])


#: What came of each probe; in words, why nothing did.
Seen: TypeAlias = Mapping[str, Drawn | str]


def observe(target: Target, seed: int = 0) -> tuple[Seen, list[str]]:
    """Show the target all probes; what it made of them, and remarks that decide nothing.

    Where the masks of one call are equal, rows that come again are no trials of their own: one mask
    of each call counts.

    Raises
    ------
    TargetError : it has neither ``sample`` nor ``sample_words``, or none that answers; or gave no
        answer in time: each of the other calls would take as long.
    """
    claims = target.hello().claims
    if not {"sample", "sample_words"} & set(claims):
        raise TargetError(
            f"identify needs the port sample or sample_words; the target has {', '.join(claims)}"
        )
    remarks, once = _remarks(target, seed)
    found: dict[str, Drawn | str] = {}
    for salt, (name, probe) in enumerate(PROBES.items()):
        if probe.words and "sample_words" not in claims:
            found[name] = "the target has no sample_words"
        else:
            found[name] = _all_drawn(target, probe, seed, salt, once=once)
    plain = found["kinds"]
    if isinstance(plain, str):
        raise TargetError(f"sample gives no masks of plain rows: {plain}")
    return found, remarks


def shares(seen: Seen) -> list[str]:
    """How many ordinary tokens of plain rows are selected, and what these show: sentences."""
    drawn = seen["kinds"]
    if isinstance(drawn, str):
        return []
    ordinary = drawn.at("w")
    chosen, places = drawn.selected[:, ordinary], len(drawn.selected) * int(ordinary.sum())
    tokens, shown = (a[:, ordinary][chosen] for a in (drawn.tokens, drawn.inputs))
    n = len(shown)
    told = [f"Of {places} ordinary tokens {n} are selected ({n / places:.4f})."]
    if n:
        masked, kept = (shown == MASK).sum() / n, (shown == tokens).sum() / n
        rest = 1.0 - masked - kept
        told.append(
            f"These show MASK, another id, their own: {masked:.4f}, {rest:.4f}, {kept:.4f}."
        )
    return told


def _all_drawn(target: Target, probe: Probe, seed: int, salt: int, *, once: bool) -> Drawn | str:
    """What came of all calls; ``once``: of the first mask of each."""
    parts = []
    for call in range(probe.calls):
        drawn = _drawn(target, probe, probe.tokens(seed, 100 * salt + call))
        if isinstance(drawn, str):
            return drawn
        parts.append(drawn)
    names, kept = ("tokens", "inputs", "selected"), slice(probe.rows if once else None)
    arrays = (np.concatenate([getattr(p, n)[kept] for p in parts]) for n in names)
    return Drawn(probe.pattern, *arrays)


def _drawn(target: Target, probe: Probe, tokens: _Array) -> Drawn | str:
    eligible = np.ones(tokens.shape, np.bool_)
    call: dict[str, Any] = {"tokens": tokens, "eligible": eligible, "policy": POLICY, "n": probe.n}
    port = "sample"
    if probe.words or port not in target.hello().claims:
        port, call["word_id"] = "sample_words", probe.word_id
    for policy in (POLICY, *_OTHERS):
        answer = target.call(port, **{**call, "policy": policy})
        if answer.kind == "timed_out":
            raise TargetError(f"{port} {answer.text}, and is asked no more")
        if not answer.not_implemented:
            break
    shape = (probe.n, *tokens.shape)
    wrong = _fault(answer, tokens, shape)
    if wrong:
        return wrong
    flat = (-1, tokens.shape[1])
    inputs, labels = (np.asarray(answer.fields[f]).reshape(flat) for f in ("inputs", "labels"))
    every = np.broadcast_to(tokens, shape).reshape(flat)
    return Drawn(probe.pattern, every, inputs.astype(np.int64), labels != -100)


def _fault(answer: Answer, tokens: _Array, shape: Sequence[int]) -> str:
    """Why an answer is of no use, or ""."""
    if answer.raised is not None:
        return f"it raised {answer.raised.type}: {answer.raised.message}"
    if answer.kind != "result":
        return answer.text or answer.kind
    for name in ("inputs", "labels"):
        array = answer.fields[name]
        if array.shape != tuple(shape) or array.dtype.kind not in "iu":
            return f"{name} is {array.dtype} {array.shape}; expected integers {tuple(shape)}"
    labels = answer.fields["labels"]
    wrong = np.argwhere((labels != -100) & (labels != tokens))
    if len(wrong):
        where = tuple(int(i) for i in wrong[0])
        return f"labels{list(where)} is {labels[where]}; expected -100 or {tokens[where[1:]]}"
    return ""


def _remarks(target: Target, seed: int) -> tuple[list[str], bool]:
    """Whether masks come again: in one call, in an equal one, in one with other tokens.

    The second answer is the first of these three.
    """
    probe = Probe("w" * 64, 16, 2)
    tokens = probe.tokens(seed, 99)
    other = np.where(tokens == _BEGINS[-1], _BEGINS[0], tokens + 2)
    calls = [_drawn(target, probe, rows) for rows in (tokens, tokens, other)]
    first, second, third = (d.selected if isinstance(d, Drawn) else None for d in calls)
    if first is None or second is None or third is None:
        return [], False
    again = "the same masks" if (first == second).all() else "other masks"
    alike = "the same positions" if (first == third).all() else "other positions"
    found = [f"An equal call gives {again}.", f"A call with other tokens selects {alike}."]
    once = bool((first[: probe.rows] == first[probe.rows :]).all()) and bool(first.any())
    if once:
        found.append("The masks of one call are equal: one of them counts.")
    return found, once
