"""Which known masker a masker behaves like (``mlm-spec identify``).

    dialect.py     `Dialect`: a masker in wide use, as facts about a few features
    probes.py      the rows that a target is shown, and what it made of them
    event.py       how often something was seen, against the probability that a fact gives it
    features/      what can be observed, its possible values, and what each value predicts
    decide.py      which values, and so which dialects, the observations leave
    command.py     the command, and how it answers on the terminal and as JSON
    page.py        the page ``docs/dialects.md``
    simulated.py   a target that behaves like each dialect, written from its description

A dialect is called after the masker that has it, since that is the answer: "behaves like X".  So
`simulated.py` has these names too, one for each target.  What is said of an implementation, with
its source, is in `mlm_conformance.field.dialects`; nothing here calls one, or knows more of it than
its name.
"""

from __future__ import annotations

__all__: list[str] = []
