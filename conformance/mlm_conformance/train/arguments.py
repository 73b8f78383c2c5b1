"""The options of ``mlm-spec train``."""

from __future__ import annotations

import argparse
from fractions import Fraction

__all__ = ["SETTINGS", "add_train"]

_PRESETS = ("tiny", "small", "base")
_MASKING = ("bert", "roberta_like", "spanbert_like", "modernbert_like")
_PRECISIONS = ("float64", "float32", "bfloat16", "float16")

#: The options that belong to the run, and not to how it is watched.
SETTINGS = (
    "preset", "vocabulary", "length", "batch", "micro_batch", "updates", "warmup",
    "learning_rate", "dropout", "precision", "seed", "masking", "held_out", "text",
)  # fmt: skip


def add_train(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the parser of ``train``; an option of the run that is not given is absent."""
    train = commands.add_parser(
        "train",
        help="train a model on text files, with the session of a backend",
        description="Train a BERT on text.  Without --text: on the prose that comes with Python.",
        allow_abbrev=False,
    )
    train.add_argument(
        "--backend", metavar="NAME", required=True, help="a backend's name, or module:attribute"
    )
    train.add_argument("--device", metavar="D", default="cpu", help="default: cpu")
    train.add_argument(
        "--out",
        metavar="DIR",
        type=_folder,
        default="mlm-spec-run",
        help="the run's folder; default: mlm-spec-run",
    )
    train.add_argument("--resume", action="store_true", help="continue the run in that folder")
    _add_run(train.add_argument_group("the run", argument_default=argparse.SUPPRESS))
    kept = train.add_argument_group("what is kept of it")
    kept.add_argument(
        "--evaluate-every", metavar="N", type=_positive, help="updates; default: a tenth of all"
    )
    kept.add_argument(
        "--checkpoint-every", metavar="N", type=_positive, help="updates; default: 100"
    )
    return train


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--text", metavar="FILE", nargs="+", help="UTF-8; a long one is cut")
    group.add_argument("--preset", choices=_PRESETS, help="the size; default: tiny")
    for name, metavar, what in (
        ("vocabulary", "V", "tokens of the vocabulary, at most"),
        ("length", "T", "tokens of a sequence"),
        ("batch", "B", "sequences of an update"),
        ("micro-batch", "B", "sequences computed at once"),
        ("updates", "N", "all of them, also those before --resume"),
        ("held-out", "N", "sequences evaluated on, at most"),
    ):
        group.add_argument(f"--{name}", metavar=metavar, type=_positive, help=what)
    group.add_argument("--warmup", metavar="N", type=_natural, help="updates of the warm-up")
    group.add_argument("--learning-rate", metavar="X", type=_rate, help="at the end of the warm-up")
    group.add_argument("--dropout", metavar="P", type=_fraction, help="such as 1/10")
    group.add_argument("--precision", choices=_PRECISIONS, help="default: float32")
    group.add_argument("--masking", choices=_MASKING, help="default: bert")
    group.add_argument("--seed", metavar="N", type=_seed, help="default: 0")


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"{text!r}; expected the path of a folder")
    return text


def _positive(text: str) -> int:
    return _integer(text, 1, 2**31 - 1)


def _natural(text: str) -> int:
    return _integer(text, 0, 2**31 - 1)


def _seed(text: str) -> int:
    return _integer(text, 0, 2**64 - 1)


def _integer(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r}; expected an integer in {least}..{most}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a finite number above 0")
    return rate


def _fraction(text: str) -> str:
    try:
        found = Fraction(text)
    except (ValueError, ZeroDivisionError):
        found = Fraction(1)
    if not 0 <= found < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a fraction in [0, 1), such as 1/10")
    return str(found)
