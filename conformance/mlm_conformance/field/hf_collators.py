"""Hugging Face's ``DataCollatorForLanguageModeling``, on both its paths, as the port ``sample``.

``mlm_probability``, ``mask_replace_prob`` and ``random_replace_prob`` come from the policy.  The
tokenizer is a word-level one with the policy's vocabulary; its special tokens are the policy's.
Where every position is eligible the collator asks the tokenizer for the special tokens, as it
does with a plain data set; otherwise it is given a ``special_tokens_mask`` in which ineligible
positions are marked too.  With ``whole_word_mask`` words reach it as they do in use: as character
offsets that touch within a word.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray

from mlm_conformance.field.sampling import require, seed_of, why_not
from mlm_spec.policy import Bernoulli, MaskingPolicy, Selection, WholeWord

__all__ = ["numpy_path", "torch_path", "whole_word_numpy_path", "whole_word_torch_path"]

_VERSIONS = {
    "tokenizers": tokenizers.__version__,
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}
_Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Collator:
    """One path of the collator.

    Attributes
    ----------
    path : its ``return_tensors``: ``"pt"`` or ``"np"``, which are two implementations.
    whole_word : its ``whole_word_mask``.
    versions : of the packages.
    """

    path: Literal["pt", "np"]
    whole_word: bool
    versions: Mapping[str, str]

    def expressible(self, policy: MaskingPolicy) -> str | None:
        """Why ``policy`` cannot be expressed, or None.

        Where each token is a word of its own, whole-word masking is the Bernoulli law.
        """
        laws: tuple[type[Selection], ...] = (Bernoulli,)
        if self.whole_word:
            laws = (Bernoulli, WholeWord)
        return why_not(policy, laws, mask_only=self.whole_word)

    def sample(
        self,
        tokens: _Array,
        eligible: _Array,
        policy: MaskingPolicy,
        n: int,
        word_id: _Array | None = None,
    ) -> dict[str, _Array]:
        """``n`` drawings, int64 (n, B, T): one call of the collator on n · B rows.

        Parameters
        ----------
        tokens, eligible, policy, n : as in the port.
        word_id : int (B, T): neighbours with one id are one word; None: each token is one.
        """
        require(self.expressible(policy))
        seed = seed_of(tokens, eligible, policy, n)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        rows = _rows(tokens, eligible, policy, word_id if self.whole_word else None)
        if not self.whole_word:
            for row in rows:
                del row["offset_mapping"]
        batch = self._collator(policy)([dict(row) for _ in range(n) for row in rows])
        shape = (n, *tokens.shape)
        names = {"inputs": "input_ids", "labels": "labels"}
        return {ours: np.asarray(batch[its]).reshape(shape) for ours, its in names.items()}

    def _collator(self, policy: MaskingPolicy) -> Any:
        shown = policy.corruption
        rate = policy.selection.rate  # type: ignore[union-attr]  # both laws here have one
        return transformers.DataCollatorForLanguageModeling(
            _tokenizer(policy.vocab_size, policy.mask_id, policy.pad_id, policy.special_ids),
            mlm_probability=float(rate),
            mask_replace_prob=float(shown.mask),
            random_replace_prob=float(shown.random),
            whole_word_mask=self.whole_word,
            return_tensors=self.path,
        )


def torch_path() -> Collator:
    """``DataCollatorForLanguageModeling(return_tensors="pt")``."""
    return Collator("pt", False, _VERSIONS)


def numpy_path() -> Collator:
    """``DataCollatorForLanguageModeling(return_tensors="np")``."""
    return Collator("np", False, _VERSIONS)


def whole_word_torch_path() -> Collator:
    """``DataCollatorForLanguageModeling(whole_word_mask=True, return_tensors="pt")``."""
    return Collator("pt", True, _VERSIONS)


def whole_word_numpy_path() -> Collator:
    """``DataCollatorForLanguageModeling(whole_word_mask=True, return_tensors="np")``."""
    return Collator("np", True, _VERSIONS)


def _rows(
    tokens: _Array, eligible: _Array, policy: MaskingPolicy, word_id: _Array | None
) -> list[dict[str, Any]]:
    """The rows of a data set, as the collator takes them."""
    tokenizer = _tokenizer(policy.vocab_size, policy.mask_id, policy.pad_id, policy.special_ids)
    rows = []
    for row, ids in enumerate(tokens.tolist()):
        special = np.asarray(
            tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True), bool
        )
        special |= ~eligible[row]
        words = np.arange(len(ids)) if word_id is None else word_id[row]
        found = {"input_ids": ids, "offset_mapping": _offsets(words, special).tolist()}
        if not eligible.all():
            found["special_tokens_mask"] = special.astype(np.int64).tolist()
        rows.append(found)
    return rows


def _offsets(words: _Array, special: _Array) -> _Array:
    """Character offsets (T, 2): one character a token, a blank before each word."""
    starts = np.arange(len(words)) + np.cumsum(np.diff(words, prepend=words[:1]) != 0)
    offsets = np.stack([starts, starts + 1], axis=1)
    offsets[special] = 0  # as tokenizers give for what is not in the text
    return offsets


@lru_cache(maxsize=8)
def _tokenizer(size: int, mask_id: int, pad_id: int | None, special_ids: tuple[int, ...]) -> Any:
    """A word-level tokenizer whose token i is ``"t<i>"``; no file and no network."""
    model = tokenizers.models.WordLevel({f"t{i}": i for i in range(size)}, unk_token="t0")
    others = [f"t{i}" for i in special_ids if i not in (mask_id, pad_id)]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model),
        mask_token=f"t{mask_id}",
        # Rows are of one length, so nothing is padded; pad() asks for the token all the same.
        pad_token=f"t{mask_id if pad_id is None else pad_id}",
        extra_special_tokens=others,
    )
