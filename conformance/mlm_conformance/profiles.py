"""How much a run does: three profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile.

    Attributes
    ----------
    name : its name.
    examples : cases drawn for each check, beside those that are always in.
    simplify_seconds : time spent on making a failing case smaller.
    derandomised : whether the drawn cases follow from the run's seed alone.
    sizes : how many sizes of its own, drawn anew by the run's seed, each port meets.
    sessions : how many of the cases that are always in a check of a session runs; None: all.
    left_out : chapters that a run of the whole specification leaves to a longer profile.
    left_out_ports : ports that it leaves out in the other chapters.
    """

    name: str
    examples: int
    simplify_seconds: float
    derandomised: bool
    sizes: int
    sessions: int | None = None
    left_out: tuple[str, ...] = ()
    left_out_ports: tuple[str, ...] = ()


#: A session compiles programs for each encoder: more than a quick run has time for.
_TRAINING = ("ENC", "OPT", "TRN", "CKP")
#: `mlm_conformance.ports.OPENS`, which imports more than a list of profiles should.
_SESSIONS = ("session", "replica_session", "device_session")

PROFILES: Mapping[str, Profile] = {
    "quick": Profile("quick", 3, 2.0, True, 1, 1, _TRAINING, _SESSIONS),
    "ci": Profile("ci", 25, 10.0, True, 16, 4),
    "nightly": Profile("nightly", 400, 30.0, False, 200),
}
