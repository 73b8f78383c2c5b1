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
    """

    name: str
    examples: int
    simplify_seconds: float
    derandomised: bool


PROFILES: Mapping[str, Profile] = {
    "quick": Profile("quick", 4, 2.0, True),
    "ci": Profile("ci", 25, 10.0, True),
    "nightly": Profile("nightly", 400, 30.0, False),
}
