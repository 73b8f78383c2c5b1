"""The simplified case of an earlier failure, run again."""

from __future__ import annotations

from pathlib import Path

from mlm_conformance.check import Broken, Violation
from mlm_conformance.failure import read_failure
from mlm_conformance.runner import open_session, plan

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
    session = open_session(
        target or failure.target, device=device or failure.device, in_process=in_process
    )
    context = session.context()
    context.case = str(failure.case)
    heading = f"{failure.requirement} {failure.check} on {session.name}: {failure.case}"
    try:
        found[0].judge(context, failure.case)
    except Violation as error:
        return 1, f"FAIL  {heading}\n{error}"
    except Broken as error:
        return 2, f"ERROR  {heading}\n{error}"
    finally:
        session.target.close()
    return 0, f"PASS  {heading}\nIt does not fail any more."
