"""The page ``docs/dialects.md``, from the descriptions and from what was found of real maskers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from mlm_conformance.dialects.dialect import Dialect
from mlm_conformance.dialects.features import FEATURES

__all__ = ["alike", "markdown"]

_PAGE = """# Dialects: which masker behaves like which

<!-- Written by `python -m benchmarks.identify`; edit nothing here. -->

```sh
mlm-spec identify mymodule:MyMasker --json identity.json
```

says which of {number} descriptions of maskers in wide use a masker fits, which it excludes, and by
what evidence. It needs the port `sample` or `sample_words` of [the architecture](architecture.md);
features of words are observed where the target has the second. Exit status: 0 something fits, 1
nothing does, 2 a bad call or an unusable target, 3 a framework is missing.

## How it works

**What the target is asked.** Rows of 1 to 64 tokens, with and without CLS and SEP, with UNK, MASK
or padding in them, and in words of one to three pieces. Every call asks for one policy: Bernoulli
3/20, and weights 4/5, 1/10, 1/10. An adapter takes from it what its masker has options for, and
lets it do the rest as it does by default: a masker with a fixed count follows its count, one with
weights of its own shows those. One that refuses the policy is asked for weights 1, 0, 0, and then
for whole words at that rate too. All positions are eligible, special tokens and padding too.
`special_ids` are, ascending, PAD, UNK, CLS and SEP. MASK is the last id of the vocabulary and not
among them: some maskers take it for special by themselves, some only where their caller says so.
In `sample` every token is a word of its own, and its id is even; in `sample_words` the pieces that
go on have odd ids.

**What is a feature.** A question with a few possible answers, below. An answer predicts how often
something happens: never, always, with a known probability, or with one in an interval. Intervals
part patterns from each other (alone, in threes, in long spans), so they are wide; what "happens"
happens in one of twenty trials at least.

**How it decides.** Counts are of independent trials, one a row wherever a row could tie them
together, so their tails are binomial and exact. An answer is rejected by an event whose p-value is
below 10⁻¹². That allows for a thousand tests, and a run makes fewer: it rejects anything true at
most once in 10⁹ runs. Where the probability is 0, one occurrence is proof. A feature with several
answers left is undecided, and none of these is excluded. A dialect is excluded by an answer of its
own that is rejected, and by nothing else: where its description is silent, nothing can exclude it.
Where all masks of a call are equal, one of them counts, and fewer answers are rejected.
Several that remain *cannot be told apart* by what was observed, and the report says what would.

**What is not looked at.** Whether MASK itself is among the random ids, or the original is left out
of them; frequencies of words; what a cap on the count does beyond 64 tokens; whether the masks of
two epochs or workers repeat. Whether an equal call gives equal masks is told, and decides nothing.

## Features

{features}

## Dialects

An empty cell or a question mark: nothing is known, or it is the caller's to say. *Selected* lists
the special tokens that are; *corrupted* what is changed though it has no label.

{table}

{about}

## What cannot be told apart

{alike}

## Real maskers

{real}
"""

_REAL = """Found on {date} by `{command}`, Python {python}.
Each ran through the adapter that the [field report](field-report.md) uses.

{rows}

Not observed:

{missing}

Where these differ from their descriptions: {differences}.

The same on targets that simulate the dialects, one written from each description:
{runs} runs ({seeds} seeds each), {wrong} with another answer than the one expected.
<!-- measured: benchmarks/results/identify.json -->
"""

_SPECIALS = ("cls", "sep", "unk", "mask", "pad")
_LEFT_ALONE = {"unselected": "tokens", "unselected pad": "padding"}
_PLAIN = ("count", "none", "weights", "pool", "neighbours", "words", "word kinds", "large word")
_OF_WORDS = ("words", "word kinds", "large word")


def markdown(dialects: Sequence[Dialect], record: Mapping[str, Any]) -> str:
    """The page.  ``record`` is ``benchmarks/results/identify.json``."""
    return _PAGE.format(
        number=len(dialects),
        features=_features(),
        table=_dialects(dialects),
        about="\n".join(_about(dialect) for dialect in dialects),
        alike=_alike(dialects),
        real=_real(record).rstrip(),
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _features() -> str:
    rows = []
    for feature in FEATURES.values():
        values = [f"`{name}`: {value.about}" for name, value in feature.values.items()]
        rows.append([f"`{feature.name}`", feature.title, "; ".join(values)])
    return _table(("feature", "of", "answers"), rows)


def _dialects(dialects: Sequence[Dialect]) -> str:
    heads = ("dialect", *_PLAIN[:2], "selected", "corrupted", *_PLAIN[2:])
    return _table(heads, [_row(dialect) for dialect in dialects])


def _row(dialect: Dialect) -> list[str]:
    plain = [dialect.facts.get(name, "") for name in _PLAIN]
    some = _of_each(dialect, {name: name.upper() for name in _SPECIALS}, "selected")
    spoilt = _of_each(dialect, _LEFT_ALONE, "changed")
    return [f"`{dialect.name}`", *plain[:2], some, spoilt, *plain[2:]]


def _of_each(dialect: Dialect, names: Mapping[str, str], value: str) -> str:
    """Those of which it is so, and behind a question mark those of which nothing is known."""
    known = [shown for name, shown in names.items() if dialect.facts.get(name) == value]
    unknown = [f"{shown}?" for name, shown in names.items() if name not in dialect.facts]
    return ", ".join([*known, *unknown]) or "none"


def _about(dialect: Dialect) -> str:
    return f"- `{dialect.name}`: [{dialect.title}]({dialect.url}). {dialect.about}"


def alike(
    dialects: Sequence[Dialect], without: Sequence[str] = ()
) -> Iterator[tuple[Dialect, Dialect]]:
    """Pairs that no feature parts which is known of both; ``without``: features left out."""
    for one, other in combinations(dialects, 2):
        both = (one.facts.keys() & other.facts.keys()) - set(without)
        if all(one.facts[name] == other.facts[name] for name in both):
            yield one, other


def _alike(dialects: Sequence[Dialect]) -> str:
    always, words = list(alike(dialects)), list(alike(dialects, _OF_WORDS))
    lines = [f"- {_pair(pair)}" for pair in always]
    more = [f"- {_pair(pair)}, without `sample_words`" for pair in words if pair not in always]
    return "\n".join([*lines, *more])


def _pair(pair: tuple[Dialect, Dialect]) -> str:
    one, other = pair
    differ = [f for f in FEATURES if (f in one.facts) != (f in other.facts)]
    known = f"known of one alone: {', '.join(differ)}" if differ else "one law"
    return f"`{one.name}` and `{other.name}` ({known})"


def _real(record: Mapping[str, Any]) -> str:
    rows = [
        [
            _short(run),
            ", ".join(f"{name} `{version}`" for name, version in run["versions"].items()),
            " or ".join(f"`{name}`" for name in run["fitting"]) or "none",
            ", ".join(f"`{found}`" for found in _found(run)),
        ]
        for run in record["real"]
    ]
    seen = record["simulated"]
    return _REAL.format(
        date=record["date"],
        command=record["command"],
        python=f"`{record['python']}`",
        rows=_table(("target", "versions", "behaves like", "observed"), rows),
        missing=_missing(record),
        differences=_differences(record) or "nowhere",
        runs=seen["number"],
        seeds=seen["seeds"],
        wrong=seen["wrong"],
    )


def _short(run: Mapping[str, Any]) -> str:
    return f"`{run['target'].rpartition('.')[2]}`"


def _missing(record: Mapping[str, Any]) -> str:
    """Features that were not observed, by the reason, and of which targets."""
    targets = dict[tuple[str, str], list[str]]()
    for run in record["real"]:
        reasons = dict[str, list[str]]()
        for name, finding in run["features"].items():
            if finding["missing"]:
                reasons.setdefault(finding["missing"], []).append(f"`{name}`")
        for reason, names in reasons.items():
            targets.setdefault((reason, ", ".join(names)), []).append(_short(run))
    lines = [f"- {names} of {', '.join(of)}: {why}." for (why, names), of in targets.items()]
    return "\n".join(lines) or "- nothing."


def _found(run: Mapping[str, Any]) -> Iterator[str]:
    for name, finding in run["features"].items():
        if finding["state"] == "decided":
            yield f"{name}: {finding['possible'][0]}"


def _differences(record: Mapping[str, Any]) -> str:
    """What speaks against the dialect that a real masker was expected to be."""
    found = []
    for run in record["real"]:
        against = run["dialects"][run["expected"]]["against"]
        found += [f"{run['expected']} in `{feature}`" for feature in against]
    return ", ".join(found)
