"""A masker in wide use, described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one masker does, as far as it is known.

    Attributes
    ----------
    name : what reports and tests call it.
    title : what people call it.
    url : the source that the facts were read in.
    about : what they hold for, in one or two sentences.
    facts : the name of a feature to the name of one of its values
        (`mlm_conformance.dialects.features`).  A feature that is not here is one of which nothing
        is known, so it speaks neither for the dialect nor against it.
    """

    name: str
    title: str
    url: str
    about: str
    facts: Mapping[str, str]
