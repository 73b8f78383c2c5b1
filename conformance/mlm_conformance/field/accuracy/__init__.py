"""The accuracy league: how close implementations come to the real log-likelihood.

    formats.py       rounding a real number to a float format directly; units in the last place
    families.py      the rows of logits
    truth.py         what is true of them
    statistics.py    one answer against the truth, and many
    entrants.py      which implementations, and where their forms are
    league.py        `run_league`: each on the same rows, in a process of its own
    results.py       what it found
    defects.py       two defects that were seen in peers, put to every implementation
    section.py       its section of the field report, and its table on the terminal

    form.py          a formula as a target: rows in, numbers out
    forms_*.py       the implementations, one file for each package

As in the room around this one, only the forms import a framework, each in a process of its own.
"""

from __future__ import annotations

__all__: list[str] = []
