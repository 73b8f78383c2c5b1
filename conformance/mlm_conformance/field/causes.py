"""What in the code of an implementation a finding comes from, where we looked: data for reports."""

from __future__ import annotations

__all__ = ["COLLATOR_OF_WORDS", "TRAINER", "TRAINER_AND_BERT"]

_CLIP = (
    "Clipping is torch's clip_grad_norm_, whose factor is c/(norm + 1e-6) "
    "(<https://github.com/pytorch/pytorch/blob/main/torch/nn/utils/clip_grad.py>)."
)
_EVALUATION = "eval_loss is the mean of the means of the batches."
_NOTHING = (
    "The update is made and counted. Its gradient is 0; momentum and decay move the parameters. "
    "The loss is NaN, and the log says 0.0 (logging_nan_inf_filter)."
)
_SCHEDULES = (
    "<https://github.com/huggingface/transformers/blob/main/src/transformers/optimization.py>"
)
_SUM_OF_MEANS = (
    "Trainer leaves the division to the model, and the model divides each micro-batch by its own "
    "count: a sum of means, twice as large with two micro-batches."
)

#: Hugging Face's Trainer, whatever its loss.
TRAINER = {
    "MLM-ENC-14": f"{_EVALUATION} Nothing is dropped.",
    "MLM-ENC-17": "The loss of nothing is 0/0. Its gradients are 0.",
    "MLM-OPT-1": _CLIP,
    "MLM-OPT-4": _CLIP,
    "MLM-OPT-6": "This update is the first of a warm-up and has the rate 0 (MLM-OPT-8). At the "
    "full rate the decay is the specified one.",
    "MLM-OPT-8": f"Schedules count from 0, so update 1 has the rate 0 ({_SCHEDULES}).",
    "MLM-OPT-9": "The rate that is wrong is one of the warm-up before (MLM-OPT-8). After it all "
    "rates are the specified ones.",
    "MLM-TRN-2": _CLIP,
    "MLM-TRN-4": _NOTHING,
    "MLM-TRN-5": "The update is made; only fp16 would skip it. One NaN makes all parameters NaN, "
    "by way of the norm. An infinite norm makes the gradient 0, and decay is left.",
    "MLM-TRN-7": _EVALUATION,
}

#: With the loss of `BertForMaskedLM`: others beside these, and more to say.
TRAINER_AND_BERT = {
    **dict.fromkeys(("MLM-ENC-12", "MLM-TRN-1"), _SUM_OF_MEANS),
    "MLM-TRN-2": f"{_SUM_OF_MEANS} {_CLIP}",
    "MLM-TRN-4": f"{_NOTHING} So is the loss of an update with one micro-batch of nothing.",
}

#: Hugging Face's collator of whole words.
COLLATOR_OF_WORDS = {
    "MLM-DST-8": "A token that is marked in special_tokens_mask ends its word: what follows is a "
    "word of its own, though the offsets touch (`_calc_word_ids_and_prob_mask`). Words without "
    "such a token within are whole.",
}
