"""Small runs of ``mlm-spec train``: a text of a few documents, a model of a few updates."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SMALL", "made_text", "small_command"]

_WORDS = (
    "the", "fox", "jumps", "over", "a", "lazy", "dog", "and", "early", "birds", "catch", "worms",
    "while", "rivers", "run", "deep",
)  # fmt: skip

SMALL = (
    "--vocabulary", "150", "--length", "16", "--batch", "4", "--updates", "6", "--warmup", "2",
    "--held-out", "8", "--seed", "7",
)  # fmt: skip


def made_text(folder: Path, paragraphs: int = 400) -> Path:
    """A text of several documents whose words follow a rule."""
    sentences = []
    for number in range(paragraphs):
        words = [_WORDS[(number * step + step) % len(_WORDS)] for step in range(1, 11)]
        sentences.append(" ".join(words).capitalize() + f", {number % 7}.")
    path = folder / "text.txt"
    path.write_text("\n\n".join(sentences), encoding="utf-8")
    return path


def small_command(folder: Path, *more: str, backend: str = "numpy") -> list[str]:
    """The arguments of a new small run in ``folder / "run"``."""
    text = folder / "text.txt"
    if not text.exists():
        made_text(folder)
    run = ["--out", str(folder / "run"), "--text", str(text)]
    return ["train", "--backend", backend, *run, *SMALL, *more]
