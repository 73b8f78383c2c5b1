"""Vocabulary, token ids on disk, and the sequences that are cut from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlm_conformance.outcomes import BadCallError
from mlm_conformance.train import store as store_module
from mlm_conformance.train.documents import Document, given_text, is_held_out
from mlm_conformance.train.store import TokenStore, build_store, open_store, text_checksum
from mlm_conformance.train.vocabulary import SPECIAL, special_ids, train_vocabulary
from mlm_conformance.train.windows import cut
from tokenizers import Tokenizer
from train_cases import made_text

from mlm_spec.presets import bert
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.inputs import training_batch

LENGTH = 16


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    return given_text([str(made_text(tmp_path_factory.mktemp("text")))])


@pytest.fixture(scope="module")
def store(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return build_store(tmp_path_factory.mktemp("a") / "store", documents, 150, LENGTH)


def test_the_special_tokens_come_first(store: TokenStore) -> None:
    tokenizer = Tokenizer.from_file(str(store.folder / "tokenizer.json"))
    assert [tokenizer.id_to_token(n) for n in range(5)] == list(SPECIAL)
    ids = special_ids()
    roles = {"pad_id": "[PAD]", "cls_id": "[CLS]", "sep_id": "[SEP]", "mask_id": "[MASK]"}
    assert {role: tokenizer.token_to_id(token) for role, token in roles.items()} == ids


def test_the_tokenizer_puts_a_text_between_cls_and_sep(store: TokenStore) -> None:
    tokenizer = Tokenizer.from_file(str(store.folder / "tokenizer.json"))
    found = tokenizer.encode("The FOX jumps").tokens
    assert found == ["[CLS]", "the", "fox", "jumps", "[SEP]"]
    assert tokenizer.decode(tokenizer.encode("the fox jumps").ids) == "the fox jumps"
    lines = (store.folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert [tokenizer.token_to_id(line) for line in lines] == list(range(store.vocab_size))


VOCABULARY = """
import sys
from mlm_conformance.train.documents import given_text
from mlm_conformance.train.vocabulary import train_vocabulary
texts = [document.text for document in given_text(sys.argv[1:])]
print(train_vocabulary(texts, 150).to_str())
"""


def test_the_same_text_gives_the_same_vocabulary_in_every_process(tmp_path: Path) -> None:
    text = str(made_text(tmp_path))
    command = [sys.executable, "-c", VOCABULARY, text]
    found = {
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        for _ in range(3)
    }
    assert len(found) == 1


@pytest.mark.parametrize(("text", "least"), [("a", 8), ("some text", 10)])
def test_a_vocabulary_without_room_for_characters_is_refused(text: str, least: int) -> None:
    for size in range(1, least):
        said = f"--vocabulary is {size}; expected at least {least} for this"
        with pytest.raises(BadCallError, match=said):
            train_vocabulary([text], size)
    train_vocabulary([text], least)


def test_nothing_to_train_a_vocabulary_on_is_no_fault_of_its_size(tmp_path: Path) -> None:
    with pytest.raises(BadCallError, match="no characters but white space; expected words"):
        train_vocabulary([" \n"], 2048)
    said = "one document, short.txt#0, and the last is held out; expected two or more"
    with pytest.raises(BadCallError, match=said):
        build_store(tmp_path / "store", [Document("short.txt#0", "A few words.")], 2048, LENGTH)


def test_the_vocabulary_knows_nothing_of_what_is_held_out(tmp_path: Path) -> None:
    texts = [Document("a", "aaa bbb " * 50), Document("b", "zzz " * 50)]
    found = build_store(tmp_path / "store", texts, 40, LENGTH)
    tokens = (found.folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert "a" in tokens
    assert "z" not in tokens


def test_the_ids_of_a_document_are_those_of_its_text(
    store: TokenStore, documents: list[Document]
) -> None:
    tokenizer = Tokenizer.from_file(str(store.folder / "tokenizer.json"))
    assert isinstance(store.tokens, np.memmap)
    assert store.tokens.dtype == np.uint16
    for number, document in enumerate(documents):
        begin, end = store.offsets[number : number + 2]
        wanted = tokenizer.encode(document.text, add_special_tokens=False).ids
        assert store.tokens[begin:end].tolist() == wanted
    assert store.offsets[-1] == len(store.tokens)


def test_more_than_65536_tokens_take_four_bytes(
    documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tokenizer, "get_vocab_size", lambda self: 2**16 + 1)
    found = build_store(tmp_path / "store", documents[:3], 150, LENGTH)
    assert found.tokens.dtype == np.uint32
    assert found.tokens.max() < 150


def test_a_store_that_is_built_again_is_the_same(
    store: TokenStore, documents: list[Document], tmp_path: Path
) -> None:
    again = build_store(tmp_path / "store", documents, 150, LENGTH)
    assert again.fingerprint == store.fingerprint
    assert again.text == store.text == text_checksum(documents)
    other = build_store(tmp_path / "other", documents[:-1], 150, LENGTH)
    assert other.fingerprint != store.fingerprint
    smaller = build_store(tmp_path / "smaller", documents, 110, LENGTH)
    assert smaller.fingerprint != store.fingerprint


def test_the_checksum_of_a_text_tells_where_documents_end() -> None:
    one, two = [Document("", "ab"), Document("", "c")], [Document("", "a"), Document("", "bc")]
    assert text_checksum(one) != text_checksum(two)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "tokenizer.json", "vocab.txt"])
def test_a_store_with_a_changed_file_is_refused(
    name: str, documents: list[Document], tmp_path: Path
) -> None:
    folder = build_store(tmp_path / "store", documents, 150, LENGTH).folder
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BadCallError, match=rf"{name} has SHA-256 \w+; expected \w+"):
        open_store(folder)
    (folder / name).unlink()
    with pytest.raises(BadCallError, match=f"{name} cannot be read"):
        open_store(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: "{", "is unreadable"),
        (lambda about: "[]", "is unreadable"),
        (lambda about: json.dumps(about | {"format": "x/2"}), "is of format 'x/2'; expected"),
        (lambda about: json.dumps(about | {"files": {}}), "is of format"),
    ],
    ids=["cut off", "a list", "another format", "no files"],
)
def test_what_is_no_store_is_refused(
    change, message: str, documents: list[Document], tmp_path: Path
) -> None:
    folder = build_store(tmp_path / "store", documents, 150, LENGTH).folder
    about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    (folder / "store.json").write_text(change(about), encoding="utf-8")
    with pytest.raises(BadCallError, match=message):
        open_store(folder)
    with pytest.raises(BadCallError, match="is unreadable"):
        open_store(tmp_path)


def test_a_store_appears_whole_or_not_at_all(
    documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(store_module, "_write_about", fail)
    with pytest.raises(OSError, match="full"):
        build_store(tmp_path / "store", documents, 150, LENGTH)
    assert list(tmp_path.iterdir()) == []


# --- sequences


def test_every_token_is_in_one_sequence_between_cls_and_sep(store: TokenStore) -> None:
    windows = cut(store, LENGTH)
    batch = windows.batch(np.arange(len(windows.begin)), 0)
    tokens, real, inner = batch["tokens"], batch["attention_mask"], batch["eligible"]
    ids = special_ids()
    assert (tokens[:, 0] == ids["cls_id"]).all()
    last = real.sum(axis=1) - 1
    assert (tokens[np.arange(len(tokens)), last] == ids["sep_id"]).all()
    assert (tokens[~real] == ids["pad_id"]).all()
    assert (~real).any()
    assert (real.sum(axis=1) == inner.sum(axis=1) + 2).all()
    assert np.sort(tokens[inner]).tolist() == np.sort(store.tokens).tolist()
    assert batch["position"][3].tolist() == batch["position_ids"][3].tolist() == list(range(16))


def test_a_sequence_is_a_part_of_one_document_and_is_known_by_its_number(store: TokenStore) -> None:
    windows = cut(store, LENGTH)
    count = len(store.offsets) - 1
    held = np.array([is_held_out(n, count) for n in range(count)])
    home = np.searchsorted(store.offsets, windows.begin, side="right") - 1
    assert (windows.begin + windows.size <= store.offsets[home + 1]).all()
    assert (held[home] == (np.arange(len(home)) >= windows.trained)).all()
    numbers = np.array([3, windows.trained + 1])
    batch = windows.batch(numbers, 5)
    assert batch["sequence_id"][:, 0].tolist() == [[int(n), 0] for n in numbers]
    assert (batch["sequence_id"] == batch["sequence_id"][:, :1]).all()
    begin, size = windows.begin[3], windows.size[3]
    assert batch["tokens"][0, 1 : 1 + size].tolist() == store.tokens[begin : begin + size].tolist()


def test_the_reference_takes_a_batch_and_masks_what_is_text(store: TokenStore) -> None:
    windows = cut(store, LENGTH)
    policy = bert(store.vocab_size, **special_ids())
    config = EncoderConfig(store.vocab_size, 4, 1, 1, 4, LENGTH)
    batch = windows.batch(np.arange(9), 2)
    masked = training_batch(batch, config, policy, seed=1)
    assert masked.selected.any()
    assert not (masked.selected & ~batch["eligible"]).any()


def test_only_tokens_that_are_trained_on_are_counted(store: TokenStore) -> None:
    windows = cut(store, LENGTH)
    trained = windows.batch(np.arange(windows.trained), 0)
    wanted = np.bincount(trained["tokens"][trained["eligible"]], minlength=store.vocab_size)
    assert windows.counts(store.vocab_size).tolist() == wanted.tolist()
    assert windows.counts(store.vocab_size).sum() < len(store.tokens)


@pytest.mark.parametrize("texts", [["aa bb " * 50], ["aa bb " * 50, " "], [" ", "aa bb " * 50]])
def test_text_that_leaves_nothing_to_train_on_or_to_hold_out_is_refused(
    texts: list[str], tmp_path: Path
) -> None:
    made = [Document(str(n), text) for n, text in enumerate(texts)]
    if texts[0].strip() and len(texts) > 1:
        found = build_store(tmp_path / "store", made, 40, LENGTH)
        with pytest.raises(BadCallError, match=r"\d+ sequences to train on and \d+ to hold out"):
            cut(found, LENGTH)
    else:  # nothing to train a vocabulary on
        with pytest.raises(BadCallError, match="expected"):
            build_store(tmp_path / "store", made, 40, LENGTH)
