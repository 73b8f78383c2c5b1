"""Hugging Face's ``DataCollatorForLanguageModeling``, on both its paths, as the port ``sample``.

``mlm_probability``, ``mask_replace_prob`` and ``random_replace_prob`` come from the policy.  The
tokenizer is a word-level one with the policy's vocabulary; its special tokens are the policy's.
Where every position is eligible the collator asks the tokenizer for the special tokens, as it
does with a plain data set; otherwise it is given a ``special_tokens_mask`` in which ineligible
positions are marked too.

With ``whole_word_mask`` words reach it as they do in use, as character offsets that touch within
a word; odd ids continue the word before them, like pieces that begin with ``##``.  There the
collator replaces the weights of the policy by 1, 0, 0, and warns.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

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
        """Why ``policy`` cannot be asked for, or None."""
        laws: tuple[type[Selection], ...] = (Bernoulli,)
        return why_not(policy, (*laws, WholeWord) if self.whole_word else laws)

    def sample(
        self, tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
    ) -> dict[str, _Array]:
        """``n`` drawings, int64 (n, B, T): one call of the collator on n · B rows."""
        require(self.expressible(policy))
        seed = seed_of(tokens, eligible, policy, n)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        rows = [self._row(*row, policy) for row in zip(tokens, eligible, strict=True)]
        batch = self._collator(policy)([dict(row) for _ in range(n) for row in rows])
        shape = (n, *tokens.shape)
        names = {"inputs": "input_ids", "labels": "labels"}
        return {ours: np.asarray(batch[its]).reshape(shape) for ours, its in names.items()}

    def _row(self, tokens: _Array, eligible: _Array, policy: MaskingPolicy) -> dict[str, Any]:
        """One row of a data set, as the collator takes it."""
        ids = tokens.tolist()
        marks = _tokenizer_of(policy).get_special_tokens_mask(ids, already_has_special_tokens=True)
        special = np.asarray(marks, bool) | ~eligible
        row = {"input_ids": ids}
        if not eligible.all():
            row["special_tokens_mask"] = special.astype(np.int64).tolist()
        if self.whole_word:
            row["offset_mapping"] = _offsets(tokens, special).tolist()
        return row

    def _collator(self, policy: MaskingPolicy) -> Any:
        shown = policy.corruption
        rate = policy.selection.rate  # type: ignore[union-attr]  # both laws here have one
        return transformers.DataCollatorForLanguageModeling(
            _tokenizer_of(policy),
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


def _offsets(tokens: _Array, special: _Array) -> _Array:
    """Character offsets (T, 2): one character a token, a blank before each word."""
    begins = tokens % 2 == 0
    starts = np.arange(len(tokens)) + np.cumsum(begins)
    offsets = np.stack([starts, starts + 1], axis=1)
    offsets[special] = 0  # as tokenizers give for what is not in the text
    return offsets


def _tokenizer_of(policy: MaskingPolicy) -> Any:
    return _tokenizer(policy.vocab_size, policy.mask_id, policy.pad_id, policy.special_ids)


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
