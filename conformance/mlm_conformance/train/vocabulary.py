"""WordPiece, trained by `tokenizers`, in the layout of a checkpoint of BERT.

The trainer numbers the pieces inside words ("##a") in the order of a hash table, and breaks ties by
these numbers, so two runs differ.  Given those pieces beforehand it is deterministic: they pass as
special tokens while it runs, and are plain ones in the tokenizer that is built from its result.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import WordPieceTrainer

from mlm_conformance.outcomes import BadCallError
from mlm_conformance.reports.files import write_atomically

__all__ = ["SPECIAL", "TOKENIZER", "special_ids", "train_vocabulary", "write_tokenizer"]

#: Their ids are 0 … 4, in this order.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

TOKENIZER = "tokenizer.json"

_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def special_ids() -> dict[str, int]:
    """The ids that a masking policy is told."""
    return {"pad_id": 0, "cls_id": 2, "sep_id": 3, "mask_id": 4}


def train_vocabulary(texts: Sequence[str], size: int) -> Tokenizer:
    """A lowercase WordPiece tokenizer with at most ``size`` tokens; the same texts give the same.

    Raises
    ------
    BadCallError : nothing but white space, or no room beside the special tokens for even a few
        characters.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    characters = _characters(normalizer.normalize_str(text) for text in texts)
    if not characters:
        raise BadCallError("the text to train on has no characters but white space; expected words")
    needed = len(SPECIAL) + 2 * min(len(characters), 2) + 1
    if size < needed:
        raise BadCallError(f"--vocabulary is {size}; expected at least {needed} for this text")
    alphabet = characters[: size // 4]
    inner = [f"##{character}" for character in alphabet]
    draft = _tokenizer({token: n for n, token in enumerate(SPECIAL)}, normalizer)
    trainer = WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, *inner],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    found = _tokenizer(draft.get_vocab(), normalizer)
    found.add_special_tokens(list(SPECIAL))
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, found.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    found.decoder = decoders.WordPiece(prefix="##")
    return found


def _characters(texts: Iterable[str]) -> list[str]:
    """All that occur, those first that occur most, and then by code point."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))


def _tokenizer(vocabulary: Mapping[str, int], normalizer: Any) -> Tokenizer:
    made = Tokenizer(models.WordPiece(dict(vocabulary), unk_token="[UNK]"))
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def write_tokenizer(tokenizer: Tokenizer, folder: Path, longest: int) -> None:
    """The four files that a tokenizer of BERT is loaded from.

    Parameters
    ----------
    tokenizer : of `train_vocabulary`.
    folder : that exists.
    longest : the most tokens that the model reads at once.
    """
    ids = tokenizer.get_vocab()
    roles = dict(zip(_ROLES, SPECIAL, strict=True))
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": longest,
        **roles,
    }
    write_atomically(folder / TOKENIZER, tokenizer.to_str(pretty=True) + "\n")
    write_atomically(
        folder / "vocab.txt", "".join(f"{t}\n" for t in sorted(ids, key=ids.__getitem__))
    )
    write_atomically(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
    write_atomically(folder / "special_tokens_map.json", json.dumps(roles, indent=2) + "\n")
