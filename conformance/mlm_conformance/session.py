"""A target that is up, and what is known of it."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from mlm_conformance.accuracy import Accuracy
from mlm_conformance.answer import Hello
from mlm_conformance.check import Context
from mlm_conformance.oracle import Oracle, oracle_for
from mlm_conformance.ports import PORTS
from mlm_conformance.process import InProcessTarget, Target, TargetProcess, open_target
from mlm_conformance.profiles import PROFILES, Profile
from mlm_conformance.smoke import Smoke, smoke
from mlm_conformance.together import Together

__all__ = ["Session", "open_session"]


@dataclass(slots=True)
class Session:
    """A target that is up, and what is known of it."""

    name: str
    device: str
    target: Target
    hello: Hello
    profile: Profile
    seed: int
    smoke: dict[str, Smoke]
    oracle: Oracle
    together: Together
    failures: Path | None = None
    accuracy: Accuracy = field(default_factory=Accuracy)

    def context(self) -> Context:
        """A fresh context for one check."""
        return Context(
            self.target,
            self.oracle,
            frozenset(self.hello.claims),
            self.hello.loss_reduction,
            self.device,
            self.hello.accumulation,
            self.accuracy,
            together=self.together,
        )

    def close(self) -> None:
        """End the target and its replicas."""
        self.target.close()
        self.together.close()


def open_session(
    name: str,
    *,
    device: str = "cpu",
    profile: str = "ci",
    run_seed: int | None = 0,
    in_process: bool = False,
    time_limit: float | None = None,
    failures: Path | None = None,
    ports: Collection[str] = tuple(PORTS),
) -> Session:
    """Start a target and try each of ``ports`` that it has once.

    Raises
    ------
    FrameworkMissing, DeviceMissing, TargetError : there is nothing to check.
    """
    limit = time_limit or 60.0

    def start() -> TargetProcess | InProcessTarget:
        about = {"limit": limit, "first_limit": 2 * limit}
        return open_target(name, device, in_process=in_process, **about)

    target = start()
    chosen = PROFILES[profile]
    if run_seed is None:
        run_seed = 0 if chosen.derandomised else secrets.randbits(32)
    try:
        hello = target.hello()
        tried = smoke(target, hello, ports)
    except BaseException:
        target.close()
        raise
    about = (hello, chosen, run_seed, tried, oracle_for(name), Together(start), failures)
    return Session(name, device, target, *about)
