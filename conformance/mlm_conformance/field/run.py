"""The suite, on each implementation of the field.

Each adapter answers from a process of its own (the suite's usual one), so that frameworks which
cannot live together never meet, and one that crashes stops nothing but itself.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from mlm_conformance.field.accuracy.league import not_reached, run_league
from mlm_conformance.field.packages import absent_packages, installed_versions
from mlm_conformance.field.registry import ACCURACY, REQUIREMENTS, Peer, chosen
from mlm_conformance.field.report import markdown, print_field
from mlm_conformance.field.results import FieldReport, PeerResult
from mlm_conformance.outcomes import BadCallError
from mlm_conformance.reports.files import write_atomically
from mlm_conformance.resolve import TargetError
from mlm_conformance.results import RunReport
from mlm_conformance.runner import plan, run
from mlm_spec.text import SPEC_VERSION

__all__ = ["asked", "check_field", "check_peer", "run_field"]

#: From a target and the requirements it is asked for to its report.
Judge = Callable[[str, Sequence[str]], RunReport]

_PROFILE = "ci"


def run_field(
    only: Sequence[str] = (),
    json_path: Path | str | None = None,
    markdown_path: Path | str | None = None,
) -> int:
    """Check the implementations of those names, and say what was found.

    Parameters
    ----------
    only : names of the registry, or "accuracy" for the accuracy league; none: everything.
    json_path, markdown_path : where to write the reports; None: nowhere.

    Returns
    -------
    The exit status: 0 where each conforms; 1 where one fails a requirement, whatever became of
    the others; 2 where the suite or an adapter broke; 3 where an implementation is missing or was
    not run; 130 after Ctrl-C.

    Raises
    ------
    BadCallError : an unknown name.
    """
    console = Console()
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    found = check_field(chosen(only), say=say)
    if not only or ACCURACY in only:
        # After Ctrl-C nothing more is started, and the report says so of each.
        league = not_reached() if found.interrupted else run_league(say=say)
        found = replace(found, accuracy=league, interrupted=found.interrupted or league.interrupted)
    print_field(found, console)
    if json_path is not None:
        write_atomically(json_path, json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if markdown_path is not None:
        write_atomically(markdown_path, markdown(found))
    return found.exit_status


def check_field(
    peers: Sequence[Peer],
    judge: Judge | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> FieldReport:
    """The suite on each of ``peers``, one after the other."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    results: list[PeerResult] = []
    interrupted = False
    for number, peer in enumerate(peers, 1):
        if interrupted:
            results.append(PeerResult(peer, None, "interrupted"))
            continue
        try:
            result = check_peer(peer, judge)
        except KeyboardInterrupt:
            result, interrupted = PeerResult(peer, None, "interrupted"), True
        results.append(result)
        say(f"({number} of {len(peers)}) {peer.name}: {result.verdict}")
    return FieldReport(
        results=tuple(results),
        versions=installed_versions(peers),
        spec_version=SPEC_VERSION,
        python=platform.python_version(),
        system=f"{platform.system()}, {platform.machine()}",
        started=started,
        profile=_PROFILE,
        interrupted=interrupted,
    )


def check_peer(peer: Peer, judge: Judge | None = None) -> PeerResult:
    """The suite on one implementation; what breaks is told, never raised."""
    absent = absent_packages(peer)
    if absent:
        return PeerResult(peer, None, f"not installed: {', '.join(absent)}")
    try:
        report = (judge or _judge)(peer.target, asked(peer))
    except (TargetError, BadCallError) as error:
        return PeerResult(peer, None, f"{type(error).__name__}: {error}", broken=True)
    except Exception as error:  # the harness itself: the others are still worth checking
        text = f"the suite broke: {type(error).__name__}: {error}"
        return PeerResult(peer, None, text, broken=True)
    if report.interrupted:
        raise KeyboardInterrupt
    return PeerResult(peer, report)


def asked(peer: Peer) -> list[str]:
    """The ids of the requirements that ``peer`` is checked against."""
    ids = dict.fromkeys(check.requirement for check in plan(REQUIREMENTS))
    return [name for name in ids if name not in peer.not_asked]


def _judge(target: str, only: Sequence[str]) -> RunReport:
    return run(target, device="cpu", profile=_PROFILE, seed=0, only=only)
