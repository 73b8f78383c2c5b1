"""The masks of this specification for a `DataLoader`, whoever trains with its batches.

A collator runs in worker processes, of which there may be any number, and on several ranks.  One
with a generator gives every worker, rank and epoch another reason to repeat or to change its
masks.  This one has no generator: a mask is a function of (seed, epoch, number of the example,
position), so nothing of that matters.  What has to reach the workers is the epoch, and it lies in
memory that they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlm_spec.errors import InputError, PolicyError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch
from mlm_torch.checking import needs_words
from mlm_torch.examples import Padded, pad_examples
from mlm_torch.masking import mask
from mlm_torch.random_words import make_key

__all__ = ["MaskingCollator", "NumberedDataset"]

_IGNORED = -100  # the label of a position that does not count


class MaskingCollator:
    """Examples in, a padded and masked batch out: the ``collate_fn`` of a `DataLoader`.

    Parameters
    ----------
    policy : the masking policy.
    seed : an integer in 0 .. 2⁶⁴ − 1.
    epoch : the first one; `set_epoch` changes it.
    returns : "labels": a dictionary of int64 tensors (B, T): input_ids, attention_mask, labels
        (−100 where not selected), and token_type_ids if the examples have them.  "fields": a
        `TrainingBatch`, for `Updater` as it is and for a session as ``.numpy()`` of each field.
    pad_to_multiple_of : T is a multiple of it.
    sequence_key : under which an example has its number.

    Raises
    ------
    PolicyError, SeedError, InputError.

    Notes
    -----
    An example is a mapping with

    * ``input_ids``: integers (n,), special tokens included;
    * ``sequence_id`` (or ``sequence_key``): its number in the whole data set, 0 .. 2⁶⁴ − 1, and
      not in a batch or in the part of a rank; `NumberedDataset` adds it;
    * ``word_ids``, as tokenizers give them, or ``offset_mapping``, if the policy looks at words.
      Of offsets a word is what touches, punctuation with it.  What belongs to no word (None, an
      empty offset) is not selected;
    * optional: ``attention_mask``, ``special_tokens_mask`` (1: never selected), ``token_type_ids``,
      and ``first_position`` of a window into a longer sequence.

    Call `set_epoch` between two epochs, before the loader is iterated: what is iterated already
    may have been masked ahead.  Without it every epoch has the same masks, which is what an
    evaluation wants.

    A `Trainer` of Hugging Face takes it as ``data_collator``, with ``remove_unused_columns=False``
    and a callback whose ``on_epoch_begin`` calls ``set_epoch(int(state.epoch))``.

    >>> from mlm_spec.policy import Bernoulli, Corruption
    >>> policy = MaskingPolicy(Bernoulli(1), Corruption(1, 0, 0), vocab_size=9, mask_id=4, pad_id=0)
    >>> collate = MaskingCollator(policy, seed=1)
    >>> batch = collate([{"input_ids": [5, 6], "sequence_id": 7},
    ...                  {"input_ids": [8], "sequence_id": 3}])
    >>> batch["input_ids"].tolist(), batch["labels"].tolist(), batch["attention_mask"].tolist()
    ([[4, 4], [4, 0]], [[5, 6], [8, -100]], [[1, 1], [1, 0]])
    """

    def __init__(
        self,
        policy: MaskingPolicy,
        seed: int,
        *,
        epoch: int = 0,
        returns: Literal["labels", "fields"] = "labels",
        pad_to_multiple_of: int = 1,
        sequence_key: str = "sequence_id",
    ) -> None:
        if not isinstance(policy, MaskingPolicy):
            raise PolicyError("policy", f"a {type(policy).__name__}", "a MaskingPolicy")
        if returns not in _FORMS:
            raise InputError("returns", repr(returns), " or ".join(map(repr, _FORMS)))
        if pad_to_multiple_of < 1:
            raise InputError("pad_to_multiple_of", pad_to_multiple_of, "1 or more")
        make_key(seed, epoch)  # a seed that is none is refused here
        self.policy, self.seed, self.returns = policy, seed, returns
        self.pad_to_multiple_of, self.sequence_key = pad_to_multiple_of, sequence_key
        # One word of memory that forked and spawned workers see too, those that persist as well.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        """The epoch whose masks are made now."""
        return int(self._epoch) % 2**64

    def set_epoch(self, epoch: int) -> None:
        """Have all batches from now on masked for this epoch, 0 .. 2⁶⁴ − 1; else `SeedError`."""
        make_key(self.seed, epoch)
        self._epoch.fill_(epoch - 2**64 if epoch >= 2**63 else epoch)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor] | TrainingBatch:
        """Pad and mask.

        Raises
        ------
        InputError, ShapeError, DTypeError, IdRangeError, WordError : with the example's index.
        """
        policy = self.policy
        pad_id = 0 if policy.pad_id is None else policy.pad_id
        words = needs_words(policy)
        padded = pad_examples(examples, self.sequence_key, pad_id, self.pad_to_multiple_of, words)
        found = mask(*padded[:5], policy, self.seed, self.epoch)
        return _FORMS[self.returns](padded, *found)


class NumberedDataset(Dataset):
    """A data set whose examples carry their numbers.

    Parameters
    ----------
    examples : of mappings, with a length and an index.
    first : the number of the first one; corpora that are put together take different ranges.
    sequence_key : under which the number goes.

    >>> NumberedDataset([{"input_ids": [5]}, {"input_ids": [6]}], first=10)[1]
    {'input_ids': [6], 'sequence_id': 11}
    """

    def __init__(
        self,
        examples: Sequence[Mapping[str, Any]],
        first: int = 0,
        sequence_key: str = "sequence_id",
    ) -> None:
        self.examples, self.first, self.sequence_key = examples, first, sequence_key

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = int(index)
        if not 0 <= number < len(self):
            raise IndexError(index)  # the end, for those who iterate by index
        return {**self.examples[number], self.sequence_key: self.first + number}


def _labels(padded: Padded, inputs: Tensor, targets: Tensor, selected: Tensor) -> dict[str, Tensor]:
    found = {
        "input_ids": inputs,
        "attention_mask": padded.attention_mask.long(),
        "labels": torch.where(selected, targets, _IGNORED),
    }
    types = padded.token_type_ids
    return found if types is None else {**found, "token_type_ids": types}


def _fields(padded: Padded, inputs: Tensor, targets: Tensor, selected: Tensor) -> TrainingBatch:
    types = padded.token_type_ids
    columns = torch.arange(inputs.shape[1]).expand_as(inputs).contiguous()
    return TrainingBatch(
        inputs, targets, selected, padded.attention_mask,
        torch.zeros_like(inputs) if types is None else types,
        columns, padded.sequence_id, padded.position,
    )  # fmt: skip


_FORMS = {"labels": _labels, "fields": _fields}
