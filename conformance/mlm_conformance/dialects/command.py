"""``mlm-spec identify``: which known masker a target behaves like."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mlm_conformance.answer import Hello
from mlm_conformance.dialects.decide import Finding, Identification, Verdict, identify
from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.features import FEATURES
from mlm_conformance.dialects.probes import POLICY, observe
from mlm_conformance.distributions.judge import ALPHA
from mlm_conformance.field.dialects import DIALECTS
from mlm_conformance.outcomes import BadCallError
from mlm_conformance.process import open_target
from mlm_conformance.reports.files import require_writable, write_atomically
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing, TargetError
from mlm_spec.text import SPEC_VERSION

__all__ = ["FORMAT", "answer", "examine", "run", "to_json"]

FORMAT = "mlm-spec-identify/1"
_STYLES = {"fits": "green", "not distinguishable": "green", "excluded": "dim"}


def run(options: argparse.Namespace) -> int:
    """Identify a target; 0 something fits, 1 nothing does, 3 its framework or device is missing.

    Raises
    ------
    BadCallError : the file cannot be written, or the target is of no use.
    """
    if options.in_process and options.time_limit is not None:
        raise BadCallError("--time-limit needs a process of its own; --in-process has none")
    if options.json is not None:
        require_writable(options.json)
    try:
        hello, found = examine(
            options.target,
            options.seed,
            options.device,
            in_process=options.in_process,
            time_limit=options.time_limit,
        )
    except (FrameworkMissing, DeviceMissing) as error:
        print(f"mlm-spec: NOT RUN: {error}", file=sys.stderr)
        return 3
    except TargetError as error:
        raise BadCallError(str(error)) from error
    _show(found, options.target, Console())
    if options.json is not None:
        record = to_json(found, options.target, options.seed, hello, options.device)
        write_atomically(options.json, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return 0 if found.fitting else 1


def examine(
    name: str,
    seed: int = 0,
    device: str = "cpu",
    *,
    in_process: bool = False,
    time_limit: float | None = None,
) -> tuple[Hello, Identification]:
    """Start a target, show it the probes, and decide.

    Raises
    ------
    FrameworkMissing, DeviceMissing, TargetError : there is nothing to identify.
    """
    limit = time_limit or 60.0
    target = open_target(name, device, in_process=in_process, limit=limit, first_limit=2 * limit)
    try:
        hello = target.hello()
        seen, remarks = observe(target, seed)
    finally:
        target.close()
    return hello, identify(seen, DIALECTS, remarks)


def answer(found: Identification, target: str) -> str:
    """The answer in a sentence or two."""
    names, total = found.fitting, len(found.verdicts)
    if len(names) == 1:
        return f"{target} behaves like {names[0]}; the other {total - 1} are excluded."
    if names:
        return (
            f"{target} behaves like {' or '.join(names)}, which cannot be told apart by what was "
            f"observed; the other {total - len(names)} are excluded."
        )
    least = min(len(verdict.against) for verdict in found.verdicts)
    near = [v for v in found.verdicts if len(v.against) == least]
    told = "; ".join(f"{v.dialect.name}, but for {', '.join(v.against)}" for v in near)
    return f"{target} behaves like none of the {total} that are described. Nearest: {told}."


def _show(found: Identification, target: str, console: Console) -> None:
    console.print(_features(found))
    console.print()
    console.print(_dialects(found.verdicts, found))
    said: Sequence[str] = (*found.shares, *found.remarks, answer(found, target), *found.apart())
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _features(found: Identification) -> Table:
    heads = ("feature", "found", "not the next best answer, since")
    table = Table(*heads, title="Observed", title_justify="left", box=None)
    for finding in found.findings.values():
        table.add_row(FEATURES[finding.feature].title, _told(finding), _margin(finding))
    return table


def _told(finding: Finding) -> str:
    if finding.missing:
        return f"not observed: {finding.missing}"
    values = FEATURES[finding.feature].values
    told = [f"{values[name].about} ({name})" for name in finding.possible]
    return "; or: ".join(told) or "nothing that is described"


def _margin(finding: Finding) -> str:
    if finding.next_best is None:
        return ""
    name, event = finding.next_best
    return f"{name}: {event}"


def _dialects(verdicts: Sequence[Verdict], found: Identification) -> Table:
    heads = ("verdict", "dialect", "strongest evidence against it")
    table = Table(*heads, title="Dialects", title_justify="left", box=None)
    for verdict in sorted(verdicts, key=lambda verdict: len(verdict.against)):
        outcome = found.outcome(verdict)
        table.add_row(outcome, verdict.dialect.name, _evidence(verdict), style=_STYLES[outcome])
    return table


def _evidence(verdict: Verdict) -> str:
    if verdict.fits:
        return ""
    (feature, event), *others = verdict.against.items()
    more = f"; also {', '.join(name for name, _ in others)}" if others else ""
    return f"{feature} ≠ {verdict.dialect.facts[feature]}: {event}{more}"


def to_json(
    found: Identification, target: str, seed: int, hello: Hello, device: str = "cpu"
) -> dict[str, Any]:
    """All of it as plain data."""
    return {
        "format": FORMAT,
        "spec_version": SPEC_VERSION,
        "target": target,
        "device": device,
        "versions": dict(hello.versions),
        "python": hello.python,
        "platform": hello.platform,
        "seed": seed,
        "asked": POLICY.to_mapping(),
        "alpha": ALPHA,
        "tests": found.tests,
        "answer": answer(found, target),
        "fitting": list(found.fitting),
        "apart": found.apart(),
        "shares": list(found.shares),
        "remarks": list(found.remarks),
        "features": {name: _finding(finding) for name, finding in found.findings.items()},
        "dialects": {v.dialect.name: _verdict(v, found) for v in found.verdicts},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "state": finding.state,
        "missing": finding.missing,
        "possible": list(finding.possible),
        "evidence": {name: _event(event) for name, event in finding.worst.items()},
    }


def _verdict(verdict: Verdict, found: Identification) -> dict[str, Any]:
    against = {name: _event(event) for name, event in verdict.against.items()}
    outcome = found.outcome(verdict)
    return {"verdict": outcome, "against": against, "unseen": list(verdict.unseen)}


def _event(event: Event) -> dict[str, Any]:
    return {
        "what": event.what,
        "count": event.count,
        "trials": event.trials,
        "probability": [float(event.low), float(event.high)],
        "p_value": event.p_value,
    }
