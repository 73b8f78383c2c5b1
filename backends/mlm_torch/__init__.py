"""The masked-language-modelling objective in PyTorch.

Tensors in, tensors out, on the device of the arguments::

    import torch, mlm_torch
    from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy

    policy = MaskingPolicy(Bernoulli("3/20"), Corruption("4/5", "1/10", "1/10"),
                           vocab_size=30522, mask_id=103, pad_id=0, special_ids=(101, 102, 103))

    ids = mlm_torch.sequence_words(row_numbers, length)         # int64 (B,) -> uint32 (B, T, 2)
    position = torch.arange(length).to(torch.uint32).expand(len(tokens), -1).contiguous()
    batch = mlm_torch.mask(tokens, ids, position, None, attention_mask.bool(), policy,
                           seed=1, epoch=0)
    hidden = encoder(batch.inputs)
    total, count = mlm_torch.head_log_likelihood_sum(
        hidden, decoder.weight, decoder.bias, batch.targets, batch.selected)
    (-mlm_torch.mean(total, count)).backward()

Four families:

* *checked* and with gradients in hand: `mask`, `score`, `head`, `loss`;
* *differentiable*: `log_likelihood_sum`, `head_log_likelihood_sum`, `mean_loss`;
* *steps*, for `torch.compile`, which return a status instead of raising: `mask_step`,
  `score_step`, `head_step`, `step_log_likelihood_sum`, `step_head_log_likelihood_sum`, and
  `raise_for_status` for afterwards.  `compile_mask` makes a fast masker of one policy;
* *training*: `MaskedLanguageModel`, an `nn.Module` whose forward is the objective of a batch laid
  out by `layout_of`, and `Updater`, which makes one update of it from `MicroBatch` tuples.
  `TorchPort.session` is the same for arrays, with checkpoints.  `join_replicas` makes each of
  them one of several processes that ``torchrun`` started.  `sequences_at` says which sequences
  come next, in an order that every process makes for itself.

For those who train elsewhere `MaskingCollator` brings the masks into their `DataLoader`.

The requirements it fulfils are those of mlm-spec; ``mlm-spec check torch`` shows how well.
"""

from __future__ import annotations

from mlm_torch.collator import MaskingCollator, NumberedDataset
from mlm_torch.compiled import compile_mask
from mlm_torch.encoder import Layout, MaskedLanguageModel, layout_of
from mlm_torch.head import (
    HeadStep,
    head,
    head_log_likelihood_sum,
    head_step,
    step_head_log_likelihood_sum,
)
from mlm_torch.loss import loss, mean_loss
from mlm_torch.masking import MaskStep, mask, mask_step
from mlm_torch.objective import (
    ScoreStep,
    StepSum,
    log_likelihood_sum,
    mean,
    score,
    score_step,
    step_log_likelihood_sum,
)
from mlm_torch.order import RunPart, sequences_at
from mlm_torch.places import sequence_words
from mlm_torch.random_words import make_key, random_words
from mlm_torch.replicas import Replicas, join_replicas
from mlm_torch.status import raise_for_status
from mlm_torch.update import MicroBatch, Updater

__all__ = [
    "HeadStep",
    "Layout",
    "MaskStep",
    "MaskedLanguageModel",
    "MaskingCollator",
    "MicroBatch",
    "NumberedDataset",
    "Replicas",
    "RunPart",
    "ScoreStep",
    "StepSum",
    "Updater",
    "compile_mask",
    "head",
    "head_log_likelihood_sum",
    "head_step",
    "join_replicas",
    "layout_of",
    "log_likelihood_sum",
    "loss",
    "make_key",
    "mask",
    "mask_step",
    "mean",
    "mean_loss",
    "raise_for_status",
    "random_words",
    "score",
    "score_step",
    "sequence_words",
    "sequences_at",
    "step_head_log_likelihood_sum",
    "step_log_likelihood_sum",
]
