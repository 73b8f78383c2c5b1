"""The comparison with the encoder of others, without its peer: cases, verdicts and the report."""

from __future__ import annotations

import pytest

from benchmarks import encoder
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.parameters import shapes
from mlm_spec.training.places import check_batch, real_places

NEAR = {"apart": 1e-16, "allowed": 1e-14}
FAR = {"apart": 1e-9, "allowed": 1e-14}
ROWS = {"sum": NEAR, "hidden 0": NEAR, "hidden 1": NEAR, "cls.predictions.bias": NEAR}


@pytest.mark.parametrize("name", encoder.CASES)
def test_every_case_has_padding_targets_and_sequences_of_several_lengths(name: str) -> None:
    fields, layout, spread, _ = encoder.CASES[name]
    config = EncoderConfig(**fields)
    batch = check_batch(encoder.random_batch(config, *layout), config)
    assert batch.selected.any()
    assert not batch.attention_mask.all()
    sequences = real_places(batch).sequences
    assert len(sequences) == layout[0] * layout[1]
    assert len({len(members) for members in sequences}) > 1
    found = encoder.random_parameters(config, spread or 0.1)
    assert {n: value.shape for n, value in found.items()} == shapes(config)
    assert all(value.any() for value in found.values())


def test_the_report_gives_the_largest_difference_of_each_kind_and_backend() -> None:
    text = encoder.report({"one": {"numpy": ROWS}, "two": {"jax": ROWS | {"hidden 1": FAR}}})
    lines = [line.split() for line in text.splitlines() if line.startswith(("one", "two"))]
    assert [line[:2] for line in lines] == [["one", "numpy"]] * 3 + [["two", "jax"]] * 3
    assert lines[1][2:] == ["hidden", "states", "2", "1.0e-16", "hidden", "0", "0.01"]
    assert lines[4][2:] == ["hidden", "states", "2", "1.0e-09", "hidden", "1", "1e+05"]


GOOD, BAD = {"numpy": ROWS, "jax": ROWS}, {"numpy": ROWS, "jax": ROWS | {"sum": FAR}}
ALL_BAD = {"numpy": ROWS | {"sum": FAR}, "jax": ROWS | {"sum": FAR}}


@pytest.mark.parametrize(
    ("right", "wrong", "refused"),
    [
        (GOOD, ALL_BAD, None),
        (BAD, ALL_BAD, r"rounding may do: first weights \(jax\)$"),
        (GOOD, GOOD, "not found out: wrong: tanh GELU"),
        (GOOD, BAD, "not found out: wrong: tanh GELU"),
    ],
    ids=["as it should be", "a backend is apart", "a wrong model passes", "with one backend"],
)
def test_the_command_fails_where_a_backend_is_apart_or_a_wrong_peer_is_not(
    right: dict, wrong: dict, refused: str | None, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["first weights", "wrong: tanh GELU"]
    results = iter([right, wrong])
    monkeypatch.setattr(encoder, "compare", lambda *case: next(results))
    arguments = ["encoder", "--results", str(tmp_path), "--only", *names]
    monkeypatch.setattr("sys.argv", arguments)
    if refused is None:
        encoder.main()
    else:
        with pytest.raises(SystemExit, match=refused):
            encoder.main()
    assert (tmp_path / "encoder.txt").exists()
