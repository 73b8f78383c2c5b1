"""``mlm-spec``, the command line.

Exit status, the same for every subcommand: 0 all that is claimed passes; 1 a requirement fails;
2 a bad call, an unusable target, or an error without a failure; 3 the framework or the device
is missing, or nothing passed; 130 ended by Ctrl-C.

The base install has NumPy alone, so nothing else is imported before it is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO, cast

import mlm_spec
from mlm_conformance import text_commands
from mlm_conformance.outcomes import EXIT_INTERRUPTED, BadCallError
from mlm_conformance.profiles import PROFILES
from mlm_conformance.train.arguments import add_train
from mlm_spec.errors import MlmSpecError
from mlm_spec.text import SPEC_VERSION

__all__ = ["EXTRA", "TRAIN_EXTRA", "main", "parser"]

#: What the conformance extra installs, by the names that Python imports.
EXTRA = ("flint", "hypothesis", "jinja2", "matplotlib", "ml_dtypes", "rich")
TRAIN_EXTRA = ("matplotlib", "ml_dtypes", "rich", "tokenizers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.  ``arguments`` None: those of the shell."""
    options = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        with contextlib.redirect_stdout(cast(TextIO, _Unread(sys.stdout))):
            return command(options)
    except (BadCallError, MlmSpecError) as error:
        print(f"mlm-spec: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mlm-spec: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a file that could be opened before the work, and not after it
        print(f"mlm-spec: {error}", file=sys.stderr)
        return 2


class _Unread:
    """A stream whose reader (head, less) may go: the rest is dropped, and the status stays.

    Otherwise the console would end the command with 1, which says that a requirement fails.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As that of the stream."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """As that of the stream."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="mlm-spec",
        description="The masked-language-modelling objective: its specification and its checks.",
        epilog="exit status: 0 all that is claimed passes; 1 a requirement fails; 2 a bad call, "
        "an unusable target or an error; 3 framework or device missing, or nothing passed",
        allow_abbrev=False,
    )
    version = f"mlm-spec {mlm_spec.__version__} (specification {SPEC_VERSION})"
    root.add_argument("--version", action="version", version=version)
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    _add_check(commands)
    _add_replay(commands)
    _add_text(commands)
    _add_field(commands)
    _add_verify(commands)
    _add_detection(commands)
    _add_soak(commands)
    _add_mutants(commands)
    _add_identify(commands)
    add_train(commands).set_defaults(command=_train)
    return root


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="check a backend", allow_abbrev=False)
    check.add_argument("target", metavar="TARGET", help="a backend's name, or module:attribute")
    check.add_argument("--device", metavar="D", default="cpu", help="default: cpu")
    check.add_argument("--profile", choices=tuple(PROFILES), default="ci", help="default: ci")
    _add_only(check, "ID", "this requirement, or all that begin so (MLM-LIK); repeatable")
    for form in ("json", "junit", "html"):
        check.add_argument(
            f"--{form}", metavar="F", type=_file, help=f"write the report as {form} to F"
        )
    check.add_argument("--seed", metavar="N", type=_seed, help="default: 0 (nightly: random)")
    say = "so many processes, each with a target of its own; default: 1"
    check.add_argument(
        "-n",
        dest="workers",
        metavar="WORKERS",
        type=_positive,
        default=1,
        help=say,
    )
    _add_in_process(check)
    check.add_argument("--time-limit", metavar="S", type=_seconds, help="seconds for one call")
    # How `-n` speaks to its shares: progress as JSON lines on standard output, no report.
    check.add_argument("--as-share", action="store_true", help=argparse.SUPPRESS)
    check.set_defaults(command=_check)


def _add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = commands.add_parser("replay", help="run a simplified failing case again")
    replay.add_argument("file", metavar="FILE", help="the file that a failure names")
    replay.add_argument("--target", metavar="T", help="default: the target that failed")
    replay.add_argument("--device", metavar="D", help="default: the device that it failed on")
    _add_in_process(replay)
    replay.set_defaults(command=_replay)


def _add_text(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    listing = commands.add_parser("list", help="list the requirements")
    listing.add_argument("--json", action="store_true", help="the whole text, as JSON")
    listing.set_defaults(command=lambda o: _say(text_commands.list_requirements(o.json)))
    show = commands.add_parser("show", help="print requirements in full")
    show.add_argument("ids", metavar="ID", nargs="+", help="an id, or a chapter such as MLM-LIK")
    show.set_defaults(command=lambda o: _say(text_commands.show(o.ids)))
    cite = commands.add_parser("cite", help="how to cite the specification")
    cite.set_defaults(command=lambda o: _say(text_commands.cite()))


def _add_field(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    field = commands.add_parser("field", help="check implementations that people already use")
    for form in ("json", "markdown"):
        field.add_argument(
            f"--{form}", metavar="F", type=_file, help=f"write the results as {form} to F"
        )
    _add_only(field, "NAME", "only this implementation; repeatable")
    field.set_defaults(command=_field)


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    say = "the exact reference against python-flint, on hard inputs"
    verify = commands.add_parser("verify-reference", help=say, allow_abbrev=False)
    verify.add_argument("--profile", choices=("ci", "nightly"), default="ci", help="default: ci")
    verify.add_argument("--seed", metavar="N", type=_seed, default=0, help="default: 0")
    verify.add_argument("--json", metavar="F", type=_file, help="write the results as json to F")
    verify.set_defaults(command=_verify)


def _add_detection(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    say = "wrong log-likelihoods that the suite rejects, and correct ones that it passes"
    detection = commands.add_parser("detection", help=say, allow_abbrev=False)
    for form in ("json", "markdown"):
        detection.add_argument(
            f"--{form}", metavar="F", type=_file, help=f"write the results as {form} to F"
        )
    detection.set_defaults(command=_detection)


def _add_soak(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    say = "many seeds on correct backends: none may be rejected"
    soak = commands.add_parser("soak", help=say, allow_abbrev=False)
    soak.add_argument("--seeds", metavar="N", type=_positive, default=200, help="default: 200")
    soak.add_argument("--first", metavar="N", type=_seed, default=0, help="the first; default: 0")
    soak.add_argument("--profile", choices=tuple(PROFILES), default="ci", help="default: ci")
    soak.add_argument("-n", dest="workers", metavar="WORKERS", type=_positive, default=2)
    soak.add_argument("--json", metavar="F", type=_file, help="write the results as json to F")
    soak.set_defaults(command=_soak)


def _add_mutants(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    say = "the kill matrix: which requirement rejects which wrong backend"
    mutants = commands.add_parser("mutants", help=say, allow_abbrev=False)
    whole = "measure the whole matrix in this profile; repeatable; default: quick"
    mutants.add_argument(
        "--profile", choices=tuple(PROFILES), action="append", default=[], help=whole
    )
    mutants.add_argument("-n", dest="workers", metavar="WORKERS", type=_positive, default=2)
    own = "let each mutant meet only the requirement that it breaks, in this profile; repeatable"
    mutants.add_argument("--own", choices=tuple(PROFILES), action="append", default=[], help=own)
    around = "also a smaller set of mutants around this backend; repeatable"
    mutants.add_argument("--around", metavar="BACKEND", action="append", default=[], help=around)
    for form in ("json", "markdown"):
        mutants.add_argument(
            f"--{form}", metavar="F", type=_file, help=f"write the matrix as {form} to F"
        )
    mutants.set_defaults(command=_mutants)


def _add_identify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    say = "which known masker a masker behaves like"
    found = commands.add_parser("identify", help=say, allow_abbrev=False)
    found.add_argument("target", metavar="TARGET", help="a backend's name, or module:attribute")
    found.add_argument("--device", metavar="D", default="cpu", help="default: cpu")
    found.add_argument("--seed", metavar="N", type=_seed, default=0, help="default: 0")
    found.add_argument("--json", metavar="F", type=_file, help="write the answer as json to F")
    _add_in_process(found)
    found.add_argument("--time-limit", metavar="S", type=_seconds, help="seconds for one call")
    found.set_defaults(command=_identify)


def _add_only(command: argparse.ArgumentParser, metavar: str, help: str) -> None:
    command.add_argument("--only", metavar=metavar, action=_Only, nargs="+", help=help)


class _Only(argparse.Action):
    """One or more: ``--only A B`` and ``--only A --only B`` are the same."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, given: Any, *_: Any
    ) -> None:
        *ids, last = given
        if getattr(options, "target", "") is None and not last.upper().startswith("MLM-"):
            rest = f" --only {' '.join(ids)}" if ids else ""
            parser.error(
                f"argument --only: {last!r} is no id such as MLM-LIK-3; the target comes before "
                f"--only: {parser.prog} {last}{rest}"
            )
        options.only = [*(options.only or ()), *given]


def _add_in_process(command: argparse.ArgumentParser) -> None:
    say = "run the target in this process, for a debugger: no time limit, no protection"
    command.add_argument("--in-process", action="store_true", help=say)


def _check(options: argparse.Namespace) -> int:
    _require_extra("check")
    from mlm_conformance import check_command

    return check_command.run(options)


def _replay(options: argparse.Namespace) -> int:
    _require_extra("replay")
    from mlm_conformance import check_command

    return check_command.replay_file(options)


def _field(options: argparse.Namespace) -> int:
    _require_extra("field")
    from mlm_conformance.field.run import run_field
    from mlm_conformance.reports.files import require_writable

    for path in (options.json, options.markdown):
        if path is not None:
            require_writable(path)
    return run_field(options.only or [], options.json, options.markdown)


def _verify(options: argparse.Namespace) -> int:
    _require_extra("verify-reference")
    from mlm_conformance import verify_reference
    from mlm_conformance.reports.files import require_writable

    if options.json is not None:
        require_writable(options.json)
    return verify_reference.run(options.profile, options.seed, options.json)


def _detection(options: argparse.Namespace) -> int:
    _require_extra("detection")
    from mlm_conformance.detection import table
    from mlm_conformance.reports.files import require_writable

    for path in (options.json, options.markdown):
        if path is not None:
            require_writable(path)
    return table.run(options.json, options.markdown)


def _soak(options: argparse.Namespace) -> int:
    _require_extra("soak")
    from mlm_conformance import soak
    from mlm_conformance.reports.files import require_writable

    if options.json is not None:
        require_writable(options.json)
    return soak.run(options.seeds, options.first, options.workers, options.profile, options.json)


def _mutants(options: argparse.Namespace) -> int:
    _require_extra("mutants")
    from mlm_conformance.matrix import command
    from mlm_conformance.reports.files import require_writable
    from mlm_conformance.resolve import DeviceMissing, FrameworkMissing, TargetError

    for path in (options.json, options.markdown):
        if path is not None:
            require_writable(path)
    if options.own and not options.profile and options.markdown is not None:
        raise BadCallError("--markdown shows a whole matrix; --own measures none")
    profiles = options.profile or ([] if options.own else ["quick"])
    asked = (profiles, options.own, options.around, options.workers)
    try:
        return command.run(*asked, options.json, options.markdown)
    except TargetError as error:
        raise BadCallError(str(error)) from error
    except (FrameworkMissing, DeviceMissing) as error:
        print(f"mlm-spec: NOT RUN: {error}", file=sys.stderr)
        return 3


def _identify(options: argparse.Namespace) -> int:
    _require_extra("identify")
    from mlm_conformance.dialects import command

    return command.run(options)


def _train(options: argparse.Namespace) -> int:
    _require_extra("train", "train", TRAIN_EXTRA)
    from mlm_conformance.train import command

    return command.run(options)


def _require_extra(command: str, extra: str = "conformance", names: Sequence[str] = EXTRA) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise BadCallError(
            f"{command} needs the {extra} extra, which is not installed "
            f"(no {', '.join(missing)}): pip install 'mlm-spec[{extra}]'"
        )


def _say(text: str) -> int:
    print(text, flush=True)
    return 0


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path; expected that of a file to write")
    return text


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer in 0..2^64-1")
    return seed


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds
