"""Every example of the specification is executed, and every requirement has one."""

from __future__ import annotations

import doctest
import warnings
from pathlib import Path

import pytest

from mlm_spec.text import CHAPTERS, Requirement, load

SPEC = Path(__file__).resolve().parents[1] / "docs" / "spec"


def execute(name: str, example: str) -> list[str]:
    """Run a doctest in an empty namespace.  Returns what went wrong; warnings are errors."""
    test = doctest.DocTestParser().get_doctest(example, {}, name, f"docs/spec/{name}", 0)
    report: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    return report


@pytest.mark.parametrize("requirement", load(), ids=lambda requirement: requirement.id)
def test_the_example_gives_what_the_text_says(requirement: Requirement) -> None:
    report = execute(requirement.id, requirement.example)
    assert not report, "\n".join(report)


@pytest.mark.parametrize("requirement", load(), ids=lambda requirement: requirement.id)
def test_the_example_uses_the_reference_and_asserts_something(requirement: Requirement) -> None:
    steps = doctest.DocTestParser().get_examples(requirement.example)
    assert any("mlm_spec." in step.source for step in steps)
    said = [step for step in steps if step.want or step.exc_msg or "assert " in step.source]
    assert said, "an example that says nothing cannot be wrong"


def test_no_python_in_the_text_goes_unexecuted() -> None:
    text = "".join((SPEC / f"{chapter}.md").read_text(encoding="utf-8") for chapter in CHAPTERS)
    assert text.count("```python") == len(load())
    assert "```python" not in (SPEC / "00-conventions.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "example",
    [
        ">>> 1 + 1\n3\n",
        ">>> raise ValueError('no')\n",
        ">>> import warnings\n>>> warnings.warn('careful')\n",
        ">>> assert 1 == 2\n",
        ">>> x = requirement\n",
    ],
    ids=["wrong value", "error", "warning", "assertion", "borrowed name"],
)
def test_a_wrong_example_is_caught(example: str) -> None:
    assert execute("wrong", example)
