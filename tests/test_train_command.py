"""The command ``mlm-spec train``: bad calls, what a person sees, and the model that comes out."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from mlm_conformance import cli
from mlm_conformance.train.arguments import SETTINGS
from mlm_conformance.train.curve import draw_curve
from mlm_conformance.train.folder import Metrics, RunFolder, keep_metrics, read_metrics
from mlm_conformance.train.held_out import Evaluation
from mlm_conformance.train.progress import Moving, Plain, Seen, shown
from mlm_conformance.train.settings import SIZES, Settings, recorded_settings, settings_from
from safetensors.numpy import load_file
from test_train_run import TARGETS
from tokenizers import Tokenizer
from train_cases import made_text, small_command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    made_text(folder)
    assert cli.main(small_command(folder, "--updates", "2", "--warmup", "0")) == 0
    return folder / "run"


def said_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """What a call that is refused says; the exit status is 2."""
    try:
        status = cli.main(list(command))
    except SystemExit as stop:  # argparse
        status = stop.code  # type: ignore[assignment]
    assert status == 2
    return capsys.readouterr().err


# --- bad calls


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--updates", "0", r"'0'; expected an integer in 1\.\.2147483647"),
        ("--warmup", "-1", r"'-1'; expected an integer in 0\.\."),
        ("--seed", "18446744073709551616", r"expected an integer in 0\.\.18446744073709551615"),
        ("--learning-rate", "nan", "'nan'; expected a finite number above 0"),
        ("--learning-rate", "fast", "'fast'; expected a finite number above 0"),
        ("--dropout", "1", r"'1'; expected a fraction in \[0, 1\), such as 1/10"),
        ("--dropout", "1/0", "'1/0'; expected a fraction"),
        ("--preset", "huge", "invalid choice: 'huge'"),
        ("--masking", "all", "invalid choice: 'all'"),
        ("--length", "2", "--length is 2; expected 3 or more"),
        ("--micro-batch", "5", r"--micro-batch is 5; expected 1\.\.4"),
        ("--warmup", "7", r"--warmup is 7; expected 0\.\.6"),
        ("--vocabulary", "9", r"--vocabulary is 9; expected at least \d+"),
    ],
)
def test_a_bad_option_is_refused_with_what_was_expected(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_text(tmp_path)
    command = small_command(tmp_path, option, value)
    assert re.search(message, said_of(capsys, *command))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_call_without_a_backend_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "required: --backend" in said_of(capsys, "train")


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("nobody", "no backend is called 'nobody'; installed: "),
        ("around:without_session", "around:without_session has no method session; expected one"),
    ],
)
def test_a_backend_that_cannot_train_is_refused(
    backend: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "around.py").write_text(TARGETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert message in said_of(capsys, *small_command(tmp_path, backend=backend))


def test_a_missing_framework_or_device_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "around.py").write_text(TARGETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(small_command(tmp_path, backend="around:without_framework")) == 3
    assert "NOT RUN: the target around:without_framework needs" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run.json", "something"])
def test_a_folder_that_is_not_free_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("{}", encoding="utf-8")
    said = said_of(capsys, *small_command(tmp_path))
    run = name == "run.json"
    assert ("holds a run already; continue it with --resume" in said) == run
    assert ("has something in it; expected an empty folder" in said) != run
    assert (tmp_path / "run" / name).read_text(encoding="utf-8") == "{}"


def test_a_file_in_place_of_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("x", encoding="utf-8")
    assert "is a file; expected a folder" in said_of(capsys, *small_command(tmp_path))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("text.txt", "--out {}/text.txt is a file; expected a folder"),
        ("text.txt/a/b", "--out {0}/text.txt/a/b cannot be made: {0}/text.txt: Not a directory"),
        ("/proc/run", "--out /proc/run cannot be made: /proc: "),
        ("/proc/self/task", "--out /proc/self/task cannot be written to: /proc/self/task: "),
    ],
)
def test_a_folder_that_cannot_be_is_refused_before_any_work(
    out: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    made_text(tmp_path)
    monkeypatch.setattr("mlm_conformance.train.command.resolve", pytest.fail)
    said = said_of(capsys, *small_command(tmp_path, "--out", str(tmp_path / out)))
    assert message.format(tmp_path) in said


def test_what_a_broken_preparation_left_is_replaced(tmp_path: Path) -> None:
    for name in ("store", ".store.abc"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / ".run.json.abc").touch()
    assert cli.main(small_command(tmp_path, "--updates", "1", "--warmup", "0")) == 0
    assert [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")] == []


def resumed(run: Path, *more: str) -> list[str]:
    return ["train", "--backend", "numpy", "--out", str(run), "--resume", *more]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--updates", "9"], "--updates is 9; expected 2, as the run began"),
        (["--learning-rate", "0.5"], "--learning-rate is 0.5; expected 0.002"),
        (["--seed", "8"], "--seed is 8; expected 7"),
    ],
)
def test_a_run_is_resumed_as_it_began(
    more: list[str], message: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in said_of(capsys, *resumed(finished, *more))


def test_resuming_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(capsys, *resumed(tmp_path))
    assert "holds no run to resume: no run.json; a run that was ended while it prepared" in said
    for text in ("{", "[]", "{}"):
        (tmp_path / "run.json").write_text(text, encoding="utf-8")
        assert "is unreadable" in said_of(capsys, *resumed(tmp_path))
    about = {"format": "mlm-spec-run/2", "fingerprint": "", "settings": {}}
    (tmp_path / "run.json").write_text(json.dumps(about), encoding="utf-8")
    assert "is of format 'mlm-spec-run/2'; expected" in said_of(capsys, *resumed(tmp_path))
    about["format"] = "mlm-spec-run/1"
    (tmp_path / "run.json").write_text(json.dumps(about), encoding="utf-8")
    assert "the recorded settings are " in said_of(capsys, *resumed(tmp_path))


def test_a_folder_in_which_another_process_trains_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = "mlm-spec: another process trains in {}; expected one at a time\n"
    before = sorted(finished.iterdir())
    with RunFolder(finished).held():
        assert said_of(capsys, *resumed(finished)) == message.format(finished)
    assert sorted(finished.iterdir()) == before
    run = tmp_path / "run"
    run.mkdir()
    with RunFolder(run).held():
        assert said_of(capsys, *small_command(tmp_path)) == message.format(run)
    assert list(run.iterdir()) == []
    with RunFolder(run).held():  # whoever held it before has let go of it
        pass


def test_a_text_that_has_changed_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = made_text(tmp_path)
    assert cli.main(small_command(tmp_path, "--updates", "1", "--warmup", "0")) == 0
    again = resumed(tmp_path / "run", "--text", str(text))
    assert cli.main(again) == 0
    text.write_text(text.read_text(encoding="utf-8") + "more", encoding="utf-8")
    assert "--text is not what it was when the run began" in said_of(capsys, *again)


def test_ids_of_another_run_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(small_command(tmp_path, "--updates", "1", "--warmup", "0")) == 0
    about = tmp_path / "run" / "run.json"
    text = about.read_text(encoding="utf-8")
    about.write_text(re.sub(r'"fingerprint": "\w{8}', '"fingerprint": "00000000', text))
    assert "has the fingerprint" in said_of(capsys, *resumed(tmp_path / "run"))


def test_a_checkpoint_that_is_gone_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(small_command(tmp_path, "--updates", "1", "--warmup", "0")) == 0
    run = tmp_path / "run"
    assert cli.main(resumed(run)) == 0
    assert capsys.readouterr().err == ""
    (run / "checkpoint.safetensors").unlink()
    assert cli.main(resumed(run)) == 0
    assert capsys.readouterr().err == (
        f"mlm-spec: warning: {run}/metrics.jsonl has updates up to 1, but there is no "
        f"{run}/checkpoint.safetensors: they are made again, from the first on\n"
    )


def test_one_document_is_no_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_text(tmp_path, 2)
    assert cli.main(small_command(tmp_path)) == 2
    assert re.match(r"1 document, \d+ characters: ", capsys.readouterr().out)


def test_a_broken_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(small_command(tmp_path, "--updates", "1", "--warmup", "0")) == 0
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert "checkpoint.safetensors" in said_of(capsys, *resumed(tmp_path / "run"))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


# --- settings


def test_every_setting_is_an_option_and_is_recorded() -> None:
    assert set(SETTINGS) == set(Settings().to_mapping())
    for size in SIZES.values():
        assert recorded_settings(json.loads(json.dumps(size.to_mapping()))) == size
        assert SIZES[size.preset] == size
        size.training()
        size.policy(size.encoder(size.vocabulary).vocab_size)


def test_what_follows_from_others_follows_from_what_was_given() -> None:
    assert settings_from({"updates": 30}).warmup == 3
    assert settings_from({"batch": 8}).micro_batch == 8
    assert settings_from({"preset": "base"}) == SIZES["base"]
    assert settings_from({"preset": "base", "length": 64}).encoder(9).max_position_embeddings == 64


def test_the_extra_installs_what_the_command_needs() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = tomllib.loads(text)["project"]["optional-dependencies"]["train"]
    assert {line.partition(">")[0] for line in wanted} == set(cli.TRAIN_EXTRA)


def test_without_the_extra_the_command_says_how_to_install_it(tmp_path: Path) -> None:
    ours = {name: ROOT / name for name in ("mlm_spec", "conformance/mlm_conformance")}
    for name, source in (ours | {"numpy": Path(np.__file__).parent}).items():
        (tmp_path / Path(name).name).symlink_to(source)
    libraries = Path(np.__file__).parent.parent / "numpy.libs"
    if libraries.exists():
        (tmp_path / "numpy.libs").symlink_to(libraries)
    command = [sys.executable, "-S", "-m", "mlm_conformance", "train", "--backend", "numpy"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'mlm-spec[train]'" in done.stderr
    assert "tokenizers" in done.stderr


# --- what a person sees


SEEN = Seen(update=10, updates=40, loss=3.25, rate=12345.6, learning_rate=5e-4, left=3725.4)
LINE = "loss 3.250  12,346 tokens/s  learning rate 5.00e-04  1:02:05 left"


def test_elsewhere_than_on_a_terminal_there_is_a_line_now_and_then() -> None:
    file = io.StringIO()
    plain = Plain(5, file)
    for update in range(1, 13):
        plain.updated(Seen(update, 12, 3.25, 12345.6, 5e-4, 3725.4))
    lines = file.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "update  5 of 12", "update 10 of 12", "update 12 of 12",
    ]  # fmt: skip
    assert lines[0].endswith(LINE)


def test_an_evaluation_is_said_with_perplexity_and_unigram_entropy() -> None:
    file = io.StringIO()
    Plain(1, file).evaluated(7, Evaluation(nats=2.0, count=9), 3.5)
    assert file.getvalue() == (
        "update 7: held-out text 2.0000 nats per selected token (perplexity 7.4); "
        "unigram entropy 3.5000\n"
    )


def test_a_score_beyond_all_numbers_is_kept_as_a_text_and_drawn(tmp_path: Path) -> None:
    assert Evaluation(710.0, 3).perplexity == Evaluation(np.inf, 3).perplexity == np.inf
    path = tmp_path / "metrics.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for update, nats in enumerate((np.inf, np.nan, 2.5)):
            Metrics(file).write("evaluation", update, nats=nats, unigram=3.0)
        file.write('{"kind": "update", "update": 2, "loss": Infinity}\n')  # of an earlier version
    keep_metrics(path, 2)

    def none(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = path.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line, parse_constant=none) for line in lines]
    assert [entry.get("nats", entry.get("loss")) for entry in found] == ["inf", "nan", 2.5, "inf"]
    draw_curve(tmp_path / "curve.png", read_metrics(path))
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_on_a_terminal_one_line_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(40, 0, terminal=True) as progress:
        assert isinstance(progress, Moving)
        progress.updated(SEEN)
        (task,) = progress.bar.tasks
        assert (task.completed, task.total, task.description) == (10, 40, LINE)
        progress.evaluated(10, Evaluation(2.0, 9), 3.5)
    with shown(500, 0, terminal=False) as progress:
        assert progress == Plain(10, progress.file)  # type: ignore[attr-defined]


def test_the_curve_is_a_picture_with_or_without_evaluations(finished: Path, tmp_path: Path) -> None:
    entries = read_metrics(finished / "metrics.jsonl")
    for number, kept in enumerate((entries, [e for e in entries if e["kind"] == "update"])):
        draw_curve(tmp_path / f"{number}.png", kept)
        assert (tmp_path / f"{number}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png"]


# --- the model


def bert_names(layers: int) -> set[str]:
    """The names in a ``BertForMaskedLM``'s state dict, written down."""
    pairs = ["bert.embeddings.LayerNorm", "cls.predictions.transform.dense",
             "cls.predictions.transform.LayerNorm", "cls.predictions.decoder"]  # fmt: skip
    for layer in range(layers):
        parts = ["attention.self.query", "attention.self.key", "attention.self.value",
                 "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense",
                 "output.dense", "output.LayerNorm"]  # fmt: skip
        pairs += [f"bert.encoder.layer.{layer}.{part}" for part in parts]
    kinds = ("word", "position", "token_type")
    tables = {f"bert.embeddings.{kind}_embeddings.weight" for kind in kinds}
    ends = ("weight", "bias")
    return tables | {f"{pair}.{end}" for pair in pairs for end in ends} | {"cls.predictions.bias"}


def test_the_model_has_the_names_and_shapes_of_a_bert(finished: Path) -> None:
    tensors = load_file(finished / "model" / "model.safetensors")
    config = json.loads((finished / "model" / "config.json").read_text(encoding="utf-8"))
    vocabulary, hidden, inner = (
        config[name] for name in ("vocab_size", "hidden_size", "intermediate_size")
    )
    assert set(tensors) == bert_names(config["num_hidden_layers"])
    assert {value.dtype for value in tensors.values()} == {np.dtype(config["dtype"])}
    wanted = {
        "bert.embeddings.word_embeddings.weight": (vocabulary, hidden),
        "bert.embeddings.position_embeddings.weight": (16, hidden),
        "bert.embeddings.token_type_embeddings.weight": (2, hidden),
        "bert.encoder.layer.1.attention.self.query.weight": (hidden, hidden),
        "bert.encoder.layer.1.intermediate.dense.weight": (inner, hidden),
        "bert.encoder.layer.1.output.dense.weight": (hidden, inner),
        "cls.predictions.decoder.weight": (vocabulary, hidden),
        "cls.predictions.decoder.bias": (vocabulary,),
    }
    assert {name: tensors[name].shape for name in wanted} == wanted
    for copy, name in (("decoder.weight", "bert.embeddings.word_embeddings.weight"),
                       ("decoder.bias", "cls.predictions.bias")):  # fmt: skip
        assert np.array_equal(tensors[f"cls.predictions.{copy}"], tensors[name])


def test_the_configuration_says_which_bert_it_is(finished: Path) -> None:
    config = json.loads((finished / "model" / "config.json").read_text(encoding="utf-8"))
    vocabulary = config.pop("vocab_size")
    lines = (finished / "model" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == vocabulary
    assert config == {
        "architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_act": "gelu",
        "position_embedding_type": "absolute", "pad_token_id": 0, "tie_word_embeddings": True,
        "is_decoder": False, "use_cache": False, "dtype": "float32", "hidden_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512,
        "max_position_embeddings": 16, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "initializer_range": 0.02, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip


def test_the_tokenizer_goes_with_the_model(finished: Path) -> None:
    model = finished / "model"
    assert sorted(p.name for p in model.iterdir()) == [
        "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    found = Tokenizer.from_file(str(model / "tokenizer.json")).encode("the fox [MASK] over")
    assert found.tokens == ["[CLS]", "the", "fox", "[MASK]", "over", "[SEP]"]
    told = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert told["model_max_length"] == 16
    roles = json.loads((model / "special_tokens_map.json").read_text(encoding="utf-8"))
    assert {told[role] for role in roles} == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
