"""The simplified case of an earlier failure, run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlm_conformance.cases.model import Case, HeadCase, MaskCase, ScoreCase
from mlm_conformance.check import Broken, Violation
from mlm_conformance.failure import read_failure
from mlm_conformance.runner import open_session, plan
from mlm_spec import head, mask, score

__all__ = ["replay"]


def replay(
    path: Path, *, target: str | None = None, device: str | None = None, in_process: bool = False
) -> tuple[int, str]:
    """Run a failure file again.

    Parameters
    ----------
    path : a file that an earlier run has written.
    target, device : instead of those in the file.
    in_process : in this process, for a debugger.

    Returns
    -------
    The exit status (0 it holds now, 1 it fails still, 2 no verdict) and what to print.

    Raises
    ------
    CaseError : the file is no failure file.
    TargetError, FrameworkMissing, DeviceMissing : the target cannot be used.
    """
    failure = read_failure(path)
    found = [c for c in plan([failure.requirement]) if c.name == failure.check]
    if not found:
        return 2, f"{failure.requirement} has no check called {failure.check} in this version"
    check = found[0]
    problem = _problem(failure.case)
    if problem:
        return 2, f"ERROR  {failure.requirement} {check.name}: the file holds no case: {problem}"
    session = open_session(
        target or failure.target,
        device=device or failure.device,
        in_process=in_process,
        ports={check.port},
    )
    heading = f"{failure.requirement} {check.name} on {session.name}: {failure.case}"
    try:
        if check.port not in session.hello.claims:
            return 2, f"ERROR  {heading}\n{session.name} has no {check.port}"
        context = session.context()
        context.case = str(failure.case)
        check.judge(context, failure.case)
    except Violation as error:
        return 1, f"FAIL  {heading}\n{error}"
    except Broken as error:
        return 2, f"ERROR  {heading}\n{error}"
    except Exception as error:  # such as a case of another kind: never taken for a verdict
        return 2, f"ERROR  {heading}\nthe check broke: {type(error).__name__}: {error}"
    finally:
        session.close()
    return 0, f"PASS  {heading}\nIt does not fail any more."


def _problem(case: Case) -> str:
    """Why the reference would not take a case that is meant to be a good call; "" if it does."""
    takes: dict[type, Callable[..., object]] = {ScoreCase: score, HeadCase: head, MaskCase: mask}
    try:
        str(case)
        if isinstance(case, ScoreCase | HeadCase | MaskCase):
            takes[type(case)](**case.arguments())
    except Exception as error:  # an edited file may be wrong in any way
        return f"{type(error).__name__}: {error}"
    return ""
