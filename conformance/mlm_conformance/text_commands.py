"""``mlm-spec list``, ``show`` and ``cite``: the specification from the shell, with NumPy alone."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import mlm_spec
from mlm_conformance.outcomes import BadCallError
from mlm_spec.text import SPEC_VERSION, Requirement, load

__all__ = ["cite", "expand", "list_requirements", "requirements", "show"]


def requirements() -> dict[str, Requirement]:
    """The specification by id, in its order."""
    return {requirement.id: requirement for requirement in load()}


def expand(patterns: Iterable[str], ids: Sequence[str]) -> list[str]:
    """The ids that ``patterns`` name, in the order of ``ids``, each once.

    A pattern is an id, or the beginning of ids up to a hyphen: ``MLM-LIK`` is a chapter.

    Raises
    ------
    BadCallError : a pattern that names nothing.

    >>> expand(["MLM-A-1"], ["MLM-A-1", "MLM-A-10", "MLM-B-1"])
    ['MLM-A-1']
    >>> expand(["MLM-B", "MLM-A"], ["MLM-A-1", "MLM-A-10", "MLM-B-1"])
    ['MLM-A-1', 'MLM-A-10', 'MLM-B-1']
    """
    wanted: set[str] = set()
    for pattern in patterns:
        start = pattern.upper().rstrip("-")
        named = {id for id in ids if id == start or id.startswith(f"{start}-")}
        if not named:
            near = difflib.get_close_matches(pattern.upper(), ids, n=3)
            hint = f"; near it: {', '.join(near)}" if near else "; mlm-spec list shows all"
            raise BadCallError(f"no requirement is called {pattern!r}{hint}")
        wanted |= named
    return [id for id in ids if id in wanted]


def list_requirements(as_json: bool) -> str:
    """One line for each requirement, or the whole text as JSON."""
    found = list(requirements().values())
    if as_json:
        data = {"spec_version": SPEC_VERSION, "requirements": [asdict(r) for r in found]}
        return json.dumps(data, indent=2, ensure_ascii=False)
    width = max(len(r.id) for r in found)
    return "\n".join(f"{r.id:<{width}}  {r.level:<6}  {r.title}" for r in found)


def show(patterns: Sequence[str]) -> str:
    """The Markdown of the requirements that ``patterns`` name."""
    found = requirements()
    return "\n".join(found[id].text for id in expand(patterns, list(found))).rstrip()


def cite() -> str:
    """How to cite the specification, and one requirement of it: plain text and BibTeX."""
    title = (
        "The masked-language-modelling objective: specification, reference and conformance suite"
    )
    example = next(iter(requirements()))
    note = f"Software mlm-spec {mlm_spec.__version__}; requirements cited by id, such as {example}"
    return f"""\
Plain text

  The mlm-spec authors. {title}.
  Version {SPEC_VERSION} (mlm-spec {mlm_spec.__version__}).

One requirement

  mlm-spec {SPEC_VERSION}, {example}
  An id is never renumbered and never reused; the version says which wording is meant.

BibTeX

  @misc{{mlm-spec-{SPEC_VERSION},
    author  = {{{{The mlm-spec authors}}}},
    title   = {{{title}}},
    version = {{{SPEC_VERSION}}},
    note    = {{{note}}}
  }}"""
