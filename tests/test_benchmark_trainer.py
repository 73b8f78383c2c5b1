"""The comparison of collators in a trainer: what it counts, and when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import trainer

WANTED = trainer.wanted()


def other(place: tuple[int, int]) -> trainer.Seen:
    """All rows as they should be, but for one."""
    shown, labels = WANTED[place]
    return WANTED | {place: (shown[::-1], labels)}


def test_every_sequence_of_every_epoch_is_looked_at() -> None:
    assert len(WANTED) == trainer.EPOCHS * trainer.ROWS
    assert any(label != -100 for _, labels in WANTED.values() for label in labels)
    assert trainer.repeated(WANTED) == 0


def test_rows_that_differ_or_repeat_are_counted() -> None:
    place = (trainer.EPOCHS - 1, 3)
    assert trainer.equal(WANTED, other(place)) == len(WANTED) - 1
    missing = {key: pair for key, pair in WANTED.items() if key != place}
    assert trainer.equal(WANTED, missing) == len(WANTED) - 1
    assert trainer.repeated(WANTED | {place: WANTED[0, 3]}) == 1


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (WANTED, other((0, 1)), None),
        (other((0, 1)), other((0, 1)), "not masked as the specification says"),
        (WANTED, WANTED, "nothing is found"),
    ],
)
def test_the_command_fails_where_it_should(
    ours: trainer.Seen,
    theirs: trainer.Seen,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def train(own: bool, settings: dict[str, Any], stop: int | None) -> trainer.Seen:
        return ours if own else (theirs if settings else WANTED)

    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(sys, "argv", ["trainer", "--results", str(tmp_path)])
    if said is None:
        trainer.main()
    else:
        with pytest.raises(SystemExit, match=said):
            trainer.main()
    rows = json.loads((tmp_path / "trainer.json").read_text())["results"]
    assert len(rows) == len(trainer.OURS) + len(trainer.THEIRS)


def test_the_committed_record_is_one_in_which_all_of_ours_are_equal() -> None:
    path = Path(trainer.__file__).parent / "results" / "trainer.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["results"]
    mine = [row for row in rows if row["collator"] == "MaskingCollator"]
    assert len(mine) == len(trainer.OURS)
    assert {row["equal rows"] for row in mine} == {f"{len(WANTED)}/{len(WANTED)}"}
