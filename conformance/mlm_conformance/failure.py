"""A failure as a file: the requirement, the check, the target, and the simplified case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm_conformance.cases.codec import CaseError, decode_case, encode_case
from mlm_conformance.check import Check, LastCall
from mlm_conformance.ports import OPENS, SESSION
from mlm_conformance.reports.files import write_atomically

if TYPE_CHECKING:
    from mlm_conformance.session import Session

__all__ = ["FAILURES", "FORMAT", "Failure", "read_failure", "reproduction", "write_failure"]

FORMAT = "mlm-spec-failure/1"
FAILURES = Path("mlm-spec-failures")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failure file holds."""

    requirement: str
    check: str
    target: str
    device: str
    message: str
    case: Any


def write_failure(folder: Path, session: Session, check: Check, case: Any, message: str) -> Path:
    """Write a failure file into ``folder``; the same failure gives the same name."""
    data = {
        "format": FORMAT,
        "requirement": check.requirement,
        "check": check.name,
        "target": session.name,
        "device": session.device,
        "message": message,
        "case": encode_case(case),
    }
    folder.mkdir(parents=True, exist_ok=True)
    target = "".join(c if c.isalnum() else "-" for c in session.name).strip("-")[:60]
    path = folder / f"{target}-{check.requirement}-{check.name}.json"
    write_atomically(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return path


def read_failure(path: Path) -> Failure:
    """Read a failure file.

    Raises
    ------
    CaseError : the file is not one; the message says why.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise CaseError(f"{path} is no JSON: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise CaseError(f"{path} is no failure file: expected format {FORMAT}")
    names = ("requirement", "check", "target", "device", "message")
    odd = [name for name in names if not isinstance(data.get(name), str)]
    if odd:
        raise CaseError(f"{path}: {', '.join(odd)} missing or no text")
    case = decode_case(data.get("case"))
    return Failure(**{name: data[name] for name in names}, case=case)


def reproduction(name: str, device: str, call: LastCall | None) -> str | None:
    """Lines of Python for the last call of a failing check, where they are short.

    A check that makes one call fails by that one.  One that compares several shows the last here;
    ``mlm-spec replay`` runs all of them.
    """
    if call is None or call.port in (*OPENS, *SESSION):
        return None  # a session is more than its last call
    lines = ["import numpy as np, ml_dtypes", "from fractions import Fraction"]
    lines += ["from mlm_spec import *", "from mlm_conformance.resolve import resolve"]
    lines.append(f"target = resolve({name!r}, {device!r})")
    shown = ", ".join(f"{key}={_literal(value)}" for key, value in call.arguments.items())
    if call.layout:
        lines.append("from mlm_conformance.layouts import laid_out")
        lines.append(f"print(target.{call.port}(**laid_out(dict({shown}), {call.layout!r})))")
    else:
        lines.append(f"print(target.{call.port}({shown}))")
    return "\n".join(lines) if len(shown) < 1500 else None


def _literal(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        name = value.dtype.name
        wide = value.astype("float64") if name == "bfloat16" else value
        text = str(wide.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
        kind = "ml_dtypes.bfloat16" if name == "bfloat16" else repr(name)
        return f"np.array({text}, {kind})"
    return repr(value)
