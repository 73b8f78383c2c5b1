"""From the name of a target to the object.

A name is that of an installed backend (an entry point of the group ``mlm_spec.backends``), or
``module:attribute`` with the current directory importable.

    TargetError          the target cannot be used
     └─ UnknownTarget    no such backend, module or attribute
    FrameworkMissing     it needs a package that is not installed
    DeviceMissing        it has not the device that was asked for

The last two are no `TargetError`: they say something about the machine, not about the target.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mlm_conformance.ports import PORTS, REDUCTIONS
from mlm_spec.errors import DeviceError

__all__ = [
    "GROUP",
    "DeviceMissing",
    "FrameworkMissing",
    "TargetError",
    "UnknownTarget",
    "claims",
    "resolve",
]

GROUP = "mlm_spec.backends"
_NOT_THEIRS = (__file__, importlib.__file__, "<frozen importlib.")


class TargetError(Exception):
    """A target that cannot be used.

    Parameters
    ----------
    message : what is wrong, in one sentence.
    detail : the traceback, or what the target printed; "" where there is none.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        self.message = message
        self.detail = detail
        super().__init__(f"{message}\n{detail}" if detail else message)


class UnknownTarget(TargetError):
    """No backend, module or attribute of that name."""


class FrameworkMissing(Exception):
    """A package that the target imports is not installed."""


class DeviceMissing(Exception):
    """The device that was asked for is not there."""


def resolve(name: str, device: str = "cpu") -> Any:
    """The target called ``name``, on ``device``.

    A class or a function is called to make the target, with ``device=`` if it has a parameter
    of that name; anything else is the target itself.

    Raises
    ------
    UnknownTarget, FrameworkMissing, DeviceMissing
    TargetError : its import or its constructor fails, it takes no device and ``device`` is not
        ``"cpu"``, it has no port method, or ``loss`` without a known ``loss_reduction``.
    """
    module = _module_of(name)
    try:
        found = _load(name)
        target = _made(name, found, device)
        _require_ports(name, target)
    except (TargetError, FrameworkMissing, DeviceMissing):
        raise
    except DeviceError as error:
        raise DeviceMissing(str(error)) from error
    except ModuleNotFoundError as error:
        raise _missing(name, module, error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a target must not end its host
        message = f"the target {name} cannot be loaded: {type(error).__name__}: {error}"
        raise TargetError(message, _traceback(error)) from error
    return target


def claims(target: object) -> tuple[str, ...]:
    """The ports that ``target`` has methods for, in the order of `PORTS`."""
    return tuple(port for port in PORTS if callable(getattr(target, port, None)))


def _module_of(name: str) -> str:
    return name.partition(":")[0] if ":" in name else _entry_point(name).module


def _entry_point(name: str) -> EntryPoint:
    installed = entry_points(group=GROUP)
    found = {point.value: point for point in installed.select(name=name)}
    if not found:
        names = ", ".join(sorted({point.name for point in installed})) or "none"
        raise UnknownTarget(
            f"no backend is called {name!r}; installed: {names}; otherwise give module:attribute"
        )
    if len(found) > 1:
        raise TargetError(f"several installed backends are called {name!r}: {', '.join(found)}")
    return next(iter(found.values()))


def _load(name: str) -> Any:
    if ":" not in name:
        return _entry_point(name).load()
    module, _, path = name.partition(":")
    if not module or not path:
        raise UnknownTarget(f"the target {name!r} is not of the form module:attribute")
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        raise UnknownTarget(
            f"the target {name!r} is not of the form module:attribute: {module!r} is no name of a "
            f"module{_meant(module, path)}"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found = importlib.import_module(module)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise UnknownTarget(f"{module} has no attribute {path!r}")
        found = getattr(found, attribute)
    return found


def _meant(module: str, path: str) -> str:
    """What to write instead of the path of a file."""
    file = Path(module)
    if file.suffix != ".py":
        return ""
    folder = "" if file.parent == Path() else f" in the folder {file.parent}"
    return f"; for that file write {file.stem}:{path}{folder}"


def _made(name: str, found: Any, device: str) -> Any:
    """Call a class or a function; take anything else as the target."""
    is_maker = inspect.isclass(found) or inspect.isroutine(found)
    is_maker = is_maker or isinstance(found, functools.partial)
    takes_device = is_maker and _takes_device(found)
    if is_maker:
        _require_callable(name, found, {"device": device} if takes_device else {})
    if takes_device:
        return found(device=device)
    if device != "cpu":
        raise TargetError(f"the target {name} takes no device=, so it cannot run on {device!r}")
    return found() if is_maker else found


def _require_callable(name: str, maker: Any, arguments: dict[str, str]) -> None:
    """A port is a method of an object: a function that wants a batch is no maker of one."""
    try:
        inspect.signature(maker).bind(**arguments)
    except TypeError as error:
        raise TargetError(
            f"the target {name} cannot be made: {error}; expected an object with methods such as "
            "score, or a class or a function that gives one and takes nothing but device="
        ) from None
    except ValueError:  # a builtin without a signature
        return


def _takes_device(maker: Any) -> bool:
    """Whether there is a parameter ``device``.  ``**options`` might ignore it, so is none."""
    try:
        parameter = inspect.signature(maker).parameters.get("device")
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter is not None and parameter.kind in by_name


def _require_ports(name: str, target: object) -> None:
    found = claims(target)
    if not found:
        raise TargetError(
            f"the target {name} ({type(target).__name__}) has none of the methods "
            f"{', '.join(PORTS)}"
        )
    reduction = getattr(target, "loss_reduction", None)
    if {"loss", "head_loss"} & set(found) and reduction not in REDUCTIONS:
        raise TargetError(
            f"the target {name} has loss or head_loss, and its loss_reduction is {reduction!r}; "
            f"expected one of {', '.join(REDUCTIONS)}"
        )


def _missing(name: str, module: str, error: ModuleNotFoundError) -> Exception:
    """What a failed import says: of the target itself, of its own parts, or of another package."""
    absent = error.name or ""
    if module == absent or (absent and module.startswith(f"{absent}.")):
        return UnknownTarget(f"the target {name}: there is no module {absent!r}")
    package = absent.partition(".")[0]
    if package and _is_installed(package):
        # A part that is not there, of a package that is: broken, or of another version.
        return TargetError(f"the target {name} cannot be loaded: {error}", _traceback(error))
    return FrameworkMissing(f"the target {name} needs {absent or 'a package'}: {error}")


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _traceback(error: BaseException) -> str:
    """Of the target's own lines, without those that lead to them from here."""
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if not frame.filename.startswith(_NOT_THEIRS)]
    )
    return "".join(told.format())
