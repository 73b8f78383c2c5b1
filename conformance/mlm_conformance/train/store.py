"""The token ids of a text on disk, memory-mapped, with a fingerprint of all they come from.

    store.json        what is here, and the SHA-256 of each of the files
    tokens.bin        ids of all documents one behind the other, uint16 or uint32, little-endian
    offsets.bin       int64: where each document begins, and the end of the last
    tokenizer.json …  the tokenizer

A store appears under its name whole: it is made beside it and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlm_conformance.outcomes import BadCallError
from mlm_conformance.reports.files import write_atomically
from mlm_conformance.train.documents import PIECE, Document, is_held_out
from mlm_conformance.train.vocabulary import TOKENIZER, train_vocabulary, write_tokenizer

__all__ = ["TokenStore", "build_store", "open_store", "text_checksum"]

_FORMAT = "mlm-spec-tokens/1"
_TOKENS, _OFFSETS, _ABOUT = "tokens.bin", "offsets.bin", "store.json"
_TOKENIZER_FILES = (TOKENIZER, "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, slots=True, eq=False)
class TokenStore:
    """Token ids of documents.

    Attributes
    ----------
    folder : where it lies.
    tokens : uint16 or uint32 (total,), memory-mapped, read-only.
    offsets : int64 (documents + 1,).
    vocab_size : V.
    text : SHA-256 of the names and texts of the documents.
    fingerprint : SHA-256 of text, tokenizer and ids together.
    """

    folder: Path
    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    vocab_size: int
    text: str
    fingerprint: str

    @property
    def tokenizer_files(self) -> list[Path]:
        """The tokenizer, as it is exported."""
        return [self.folder / name for name in _TOKENIZER_FILES]


def text_checksum(documents: Sequence[Document]) -> str:
    """SHA-256 over the texts, each with its length, in order; names do not matter."""
    digest = hashlib.sha256()
    for document in documents:
        text = document.text.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def build_store(folder: Path, documents: Sequence[Document], size: int, longest: int) -> TokenStore:
    """Train a vocabulary on the documents that are not held out, and write all ids.

    Parameters
    ----------
    folder : the store's; what is there, from a run that never began, is replaced.
    documents : in order.
    size : of the vocabulary, at most.
    longest : the most tokens that the model reads at once.

    Raises
    ------
    BadCallError : no document to train on, or too small a vocabulary.
    """
    seen = [d.text for n, d in enumerate(documents) if not is_held_out(n, len(documents))]
    if not seen:
        raise BadCallError(
            f"the text is one document, {documents[0].name}, and the last is held out; expected "
            f"two or more: give a second --text, or more of it (one is cut from 2 · {PIECE:,} "
            "characters on, between paragraphs)"
        )
    tokenizer = train_vocabulary(seen, size)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        write_tokenizer(tokenizer, made, longest)
        _write_ids(made, tokenizer, documents)
        _write_about(made, tokenizer.get_vocab_size(), text_checksum(documents))
        os.chmod(made, 0o777 & ~_umask())
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return open_store(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_ids(folder: Path, tokenizer: Tokenizer, documents: Sequence[Document]) -> None:
    wide = "<u4" if tokenizer.get_vocab_size() > 2**16 else "<u2"
    offsets = [0]
    with open(folder / _TOKENS, "wb") as file:
        for document in documents:
            found = tokenizer.encode(document.text, add_special_tokens=False).ids
            file.write(np.array(found, wide).tobytes())
            offsets.append(offsets[-1] + len(found))
    (folder / _OFFSETS).write_bytes(np.array(offsets, "<i8").tobytes())


def _write_about(folder: Path, vocab_size: int, text: str) -> None:
    files = {name: _checksum(folder / name) for name in (_TOKENS, _OFFSETS, *_TOKENIZER_FILES)}
    about = {"format": _FORMAT, "vocab_size": vocab_size, "text": text, "files": files}
    write_atomically(folder / _ABOUT, json.dumps(about, indent=2, sort_keys=True) + "\n")


def open_store(folder: Path) -> TokenStore:
    """A store as it was built.

    Raises
    ------
    BadCallError : it is not there, or a file of it is not the one that was written.
    """
    path = folder / _ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        form, names = about["format"], about["files"]
        vocab_size, text = int(about["vocab_size"]), str(about["text"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCallError(f"{path} is unreadable ({error}); expected a store of tokens") from None
    if form != _FORMAT or sorted(names) != sorted((_TOKENS, _OFFSETS, *_TOKENIZER_FILES)):
        raise BadCallError(f"{path} is of format {form!r}; expected {_FORMAT!r}")
    for name, wanted in names.items():
        found = _checksum(folder / name)
        if found != wanted:
            raise BadCallError(f"{folder / name} has SHA-256 {found}; expected {wanted}")
    offsets = np.fromfile(folder / _OFFSETS, "<i8").astype(np.int64)
    dtype = "<u4" if vocab_size > 2**16 else "<u2"
    tokens: NDArray[Any] = np.empty(0, dtype)
    if offsets[-1]:  # an empty file cannot be mapped
        tokens = np.memmap(folder / _TOKENS, dtype, mode="r")
    whole = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    fingerprint = hashlib.sha256(whole).hexdigest()
    return TokenStore(folder, tokens, offsets, vocab_size, text, fingerprint)


def _checksum(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadCallError(f"{path} cannot be read: {error.strerror or error}") from None
