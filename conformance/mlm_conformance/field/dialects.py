"""Maskers in wide use, described for ``mlm-spec identify``: what each does by default.

Each fact was read in the source at the address, or seen in a run of it.  What was not found, or is
left to the caller, is not said.  `mlm_conformance.dialects` decides, and names no implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlm_conformance.dialects.dialect import Dialect

__all__ = ["DIALECTS"]

_GITHUB = "https://github.com"
_COLLATOR = f"{_GITHUB}/huggingface/transformers/blob/main/src/transformers/data/data_collator.py"
_BERT = f"{_GITHUB}/google-research/bert/blob/eedf571/create_pretraining_data.py"
_FAIRSEQ = f"{_GITHUB}/facebookresearch/fairseq/blob/3d262bb2/fairseq/data/mask_tokens_dataset.py"
_KERAS = (
    f"{_GITHUB}/keras-team/keras-hub/blob/master/keras_hub/src/layers/preprocessing/"
    "masked_lm_mask_generator.py"
)
_TEXT = f"{_GITHUB}/tensorflow/text/blob/master/tensorflow_text/python/ops/masking_ops.py"

Facts = Mapping[str, str]

_NO_BRACKETS: Facts = {"cls": "never", "sep": "never"}
_BRACKETS: Facts = {"cls": "selected", "sep": "selected"}
_USUAL: Facts = {"weights": "80/10/10", "pool": "all", "unselected": "never"}
_PIECES: Facts = {"neighbours": "alone", "words": "pieces", "word kinds": "piece"}
_RATE: Facts = {"count": "bernoulli", "none": "possible", "neighbours": "alone"}
_PADDING: Facts = {"pad": "never", "unselected pad": "never"}
_ROUNDED: Facts = {"count": "round", "none": "never"}
_CEILING: Facts = {"count": "ceiling of words", "none": "never"}

_HF: Facts = {
    **_RATE,
    **_NO_BRACKETS,
    **_PADDING,
    **_USUAL,
    "unk": "never",
    "mask": "never",
}
_GOOGLE: Facts = {
    **_ROUNDED,
    **_NO_BRACKETS,
    **_USUAL,
    "unk": "selected",
    "mask": "selected",
    "neighbours": "alone",
    "word kinds": "piece",
}
_ROBERTA: Facts = {
    "count": "by chance",
    "none": "possible",
    **_BRACKETS,
    "unk": "selected",
    **_USUAL,
    "pool": "not the first",
    "neighbours": "alone",
}
_PACKER: Facts = {
    **_RATE,
    **_BRACKETS,
    **_USUAL,
    **_PIECES,
    "unk": "selected",
    "mask": "selected",
    "pad": "never",
}
_LISTED: Facts = {"unk": "never", "mask": "selected"}
_RAGGED: Facts = {**_CEILING, **_NO_BRACKETS, **_PADDING, **_USUAL, **_PIECES}

DIALECTS: Sequence[Dialect] = (
    Dialect(
        "google-bert",
        "Google BERT",
        _BERT,
        "create_pretraining_data.py on Python 3. NVIDIA's static data preparation follows it.",
        {**_GOOGLE, "words": "pieces"},
    ),
    Dialect(
        "google-bert-words",
        "Google BERT, do_whole_word_mask",
        _BERT,
        "The same with whole words: a word that would exceed the count is left out, and what a "
        "piece shows is drawn for each piece.",
        {**_GOOGLE, "words": "whole", "large word": "skipped"},
    ),
    Dialect(
        "hf-collator",
        "Hugging Face DataCollatorForLanguageModeling",
        _COLLATOR,
        "Both of its paths, where the tokenizer is asked for the special tokens.",
        {**_HF, **_PIECES},
    ),
    Dialect(
        "hf-collator-words",
        "Hugging Face DataCollatorForLanguageModeling(whole_word_mask=True)",
        _COLLATOR,
        "It replaces the weights by 1, 0, 0, and warns.",
        {
            **{name: value for name, value in _HF.items() if name != "pool"},
            "weights": "100/0/0",
            "words": "whole",
            "large word": "selected",
        },
    ),
    Dialect(
        "hf-tf-collator",
        "Hugging Face collator, TF path of several versions",
        f"{_GITHUB}/huggingface/transformers/pull/21834",
        "Removed since. A tenth of what is not masked becomes random, in place of a half.",
        {**_HF, **_PIECES, "weights": "80/2/18"},
    ),
    Dialect(
        "lddl",
        "NVIDIA LDDL; Hugging Face collator with special_tokens_mask",
        f"{_GITHUB}/NVIDIA/LDDL/blob/e4006d2/lddl/torch/bert.py",
        "Special tokens are known by their position, so one in the text is a token like others.",
        {**_HF, **_PIECES, "unk": "selected", "mask": "selected"},
    ),
    Dialect(
        "fairseq",
        "fairseq (RoBERTa)",
        _FAIRSEQ,
        "Random ids leave out the first four of the dictionary; the mask id is its last.",
        {**_ROBERTA, "words": "pieces", "word kinds": "piece"},
    ),
    Dialect(
        "fairseq-words",
        "fairseq, mask_whole_words",
        _FAIRSEQ,
        "The count is one of words, and CLS and SEP are words.",
        {**_ROBERTA, "words": "whole", "word kinds": "word", "large word": "selected"},
    ),
    Dialect(
        "modernbert-packer",
        "ModernBERT sequence packer",
        f"{_GITHUB}/AnswerDotAI/ModernBERT/blob/8c57a0f/src/sequence_packer.py",
        "Asked for the rate; its own is 3/10. Padding has no label and is corrupted all the same. "
        "Random ids go up to the largest of the batch.",
        {**_PACKER, "unselected pad": "changed"},
    ),
    Dialect(
        "modernbert-packer-2",
        "ModernBERT sequence packer, later",
        f"{_GITHUB}/AnswerDotAI/ModernBERT/blob/5216304/src/sequence_packer.py",
        "Padding is left alone.",
        {**_PACKER, "unselected pad": "never"},
    ),
    Dialect(
        "megatron",
        "Megatron-LM BERT",
        f"{_GITHUB}/NVIDIA/Megatron-LM/blob/d98e8a64dd/megatron/core/datasets/masked_dataset.py",
        "As pretrain_bert.py asks: n-grams of whole words up to three, what a token shows drawn "
        "for each token. A second bound of the count depends on the length that was aimed at.",
        {
            **_NO_BRACKETS,
            **_USUAL,
            "count": "budget",
            "unk": "selected",
            "mask": "selected",
            "neighbours": "n-grams",
            "words": "whole",
            "word kinds": "piece",
            "large word": "skipped",
        },
    ),
    Dialect(
        "keras-hub-python",
        "keras-hub MaskedLMMaskGenerator, Python path",
        _KERAS,
        "Where it is called with arrays or lists. Which ids are special is the caller's to say, "
        "MASK among them.",
        {**_RATE, **_NO_BRACKETS, **_PADDING, **_USUAL, **_PIECES, **_LISTED},
    ),
    Dialect(
        "keras-hub-tf",
        "keras-hub MaskedLMMaskGenerator, TF path",
        _KERAS,
        "In a tf.data pipeline. It calls TF.Text.",
        {**_RAGGED, **_LISTED},
    ),
    Dialect(
        "tf-text",
        "TF.Text mask_language_model",
        _TEXT,
        "RandomItemSelector without a cap that counts, and MaskValuesChooser, on flat rows.",
        _RAGGED,
    ),
    Dialect(
        "tf-text-early",
        "TF.Text mask_language_model, before its fix",
        f"{_GITHUB}/tensorflow/text/commit/3d5c0fd",
        "The test for a random id could not be true, so none was ever shown.",
        {
            **{name: value for name, value in _RAGGED.items() if name != "pool"},
            "weights": "80/0/20",
        },
    ),
    Dialect(
        "spanbert",
        "SpanBERT",
        f"{_GITHUB}/facebookresearch/SpanBERT/blob/0670d8b/pretraining/fairseq/data/masking.py",
        "Geometric spans of words. Random ids follow the corpus, so nothing is said of them.",
        {
            "count": "ceiling of all",
            "none": "never",
            "unk": "selected",
            "weights": "80/10/10",
            "unselected": "never",
            "neighbours": "spans",
            "words": "cut",
            "large word": "selected",
        },
    ),
    Dialect(
        "electra",
        "ELECTRA",
        f"{_GITHUB}/google-research/electra/blob/8a46635/pretrain/pretrain_helpers.py",
        "Positions are drawn with replacement, so fewer different ones may be selected.",
        {
            **_NO_BRACKETS,
            **_PADDING,
            **_PIECES,
            "mask": "never",
            "unk": "selected",
            "count": "replaced",
            "none": "never",
            "weights": "85/0/15",
            "unselected": "never",
        },
    ),
    Dialect(
        "nemo",
        "NeMo lm_bert_dataset",
        f"{_GITHUB}/NVIDIA/NeMo/blob/8cfedd7203/nemo/collections/nlp/data/language_modeling/"
        "lm_bert_dataset.py",
        "Words by a rate, one decision for what a word shows. The mark of a word's beginning is "
        "taken for that of its continuation.",
        {
            **_RATE,
            **_NO_BRACKETS,
            **_USUAL,
            "pool": "not CLS, SEP",
            "unk": "selected",
            "mask": "selected",
            "words": "inverted",
            "large word": "selected",
        },
    ),
    Dialect(
        "deberta",
        "DeBERTa NGramMaskGenerator",
        f"{_GITHUB}/microsoft/DeBERTa/blob/8d492e9/DeBERTa/apps/tasks/mlm_task.py",
        "As its task asks, max_gram=1: one token of each six, until the count is reached.",
        {
            **_ROUNDED,
            **_NO_BRACKETS,
            **_PADDING,
            **_USUAL,
            "unk": "never",
            "mask": "never",
            "neighbours": "windows",
            "words": "pieces",
        },
    ),
    Dialect(
        "lucidrains-mlm",
        "lucidrains mlm-pytorch",
        f"{_GITHUB}/lucidrains/mlm-pytorch/blob/1569ae2/mlm_pytorch/mlm_pytorch.py",
        "With a random_token_prob: random ids are put anywhere, selected or not.",
        {
            "count": "ceiling of all",
            "none": "never",
            **_NO_BRACKETS,
            "pad": "never",
            "unselected": "changed",
            "unselected pad": "changed",
            "neighbours": "alone",
            "words": "pieces",
        },
    ),
)
