"""Which implementations are checked, where their adapters are, and what is known upstream.

This is data: no framework is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlm_conformance.checks import CHECKS
from mlm_conformance.field import causes
from mlm_conformance.outcomes import BadCallError

__all__ = ["ACCURACY", "LEFT_OUT", "PEERS", "REQUIREMENTS", "Peer", "chosen"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One implementation of the field.

    Attributes
    ----------
    name : what ``--only`` calls it.
    title : what reports call it.
    target : its adapter, ``module:attribute``.
    packages : what is imported, to what is installed: ``{"keras_hub": "keras-hub"}``.
    about : how it is called, in one or two sentences.
    upstream : where its maintainers or users speak of a finding: requirement id to URL.
    not_asked : requirements that make no sense for it: id to the reason, which reports print.
    causes : what in its code a finding comes from, where we looked: requirement id to a sentence.
    """

    name: str
    title: str
    target: str
    packages: Mapping[str, str]
    about: str
    upstream: Mapping[str, str] = field(default_factory=dict)
    not_asked: Mapping[str, str] = field(default_factory=dict)
    causes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, str]:
        """Who it is, as plain data."""
        return {n: getattr(self, n) for n in ("name", "title", "target", "about")}


#: What is checked.  The rest of chapter ERR asks for the classes and the words of this project's
#: own errors, which other people's code does not claim; what stays is about bad values, where
#: the finding is an answer without any error.
REQUIREMENTS = (
    *("MLM-OBJ", "MLM-SEL", "MLM-COR", "MLM-DST", "MLM-LIK", "MLM-GRA", "MLM-HED"),
    *("MLM-ERR-3", "MLM-ERR-4", "MLM-ERR-5", "MLM-ERR-6", "MLM-ERR-9", "MLM-ERR-14"),
    *("MLM-ENC", "MLM-OPT", "MLM-TRN"),
)
LEFT_OUT = (
    "Left out: what chapter ERR says of the classes and messages of errors, and chapters RNG and "
    "CKP. They describe this project's own exceptions, random words and files, which no other code "
    "claims."
)

#: What ``--only`` calls the accuracy league (`mlm_conformance.field.accuracy`).
ACCURACY = "accuracy"

_ADAPTERS = "mlm_conformance.field"
_TORCH = {"torch": "torch"}
_HF = {"torch": "torch", "transformers": "transformers"}
_HF_TRAINER = {**_HF, "accelerate": "accelerate"}
_OPTAX = {"jax": "jax", "optax": "optax"}
_KERAS = {
    "keras": "keras",
    "keras_hub": "keras-hub",
    "tensorflow": "tensorflow",
    "tensorflow_text": "tensorflow-text",
}

_TORCH_NAN = {"MLM-OBJ-11": "https://github.com/pytorch/pytorch/issues/70348"}
_HF_NAN = {"MLM-OBJ-11": "https://github.com/huggingface/transformers/issues/16711"}
_HF_SUMS = "https://github.com/huggingface/transformers/issues/47688"
_HF_COUNT = {**_HF_NAN, "MLM-OBJ-10": _HF_SUMS}
_HF_POOL = {"MLM-COR-5": "https://github.com/huggingface/transformers/issues/15342"}
_HF_SEED = "https://github.com/huggingface/transformers/pull/36497"
_HF_EVALUATION = "https://github.com/huggingface/transformers/issues/39241"
_HF_WARM_UP = "https://github.com/huggingface/transformers/issues/34754"
_OPTAX_LABELS = "https://github.com/google-deepmind/optax/issues/1185"

_TRAINER = {
    **dict.fromkeys(("MLM-OPT-6", "MLM-OPT-8", "MLM-OPT-9"), _HF_WARM_UP),
    **dict.fromkeys(("MLM-ENC-14", "MLM-TRN-7"), _HF_EVALUATION),
    "MLM-ENC-17": _HF_NAN["MLM-OBJ-11"],
    "MLM-TRN-4": "https://github.com/huggingface/trl/issues/6668",
}
_UPDATES = (
    "BertForMaskedLM; each update is one call of train() on exactly its micro-batches, with the "
    "optimiser and the scheduler of the run. Without dropout, whose units torch draws. "
    "warmup_steps is W - 1, so that the rate is the highest at update W. The loss is that of "
    "training_step; in the log it is rounded to float32."
)

_WITH_COUNT = (
    "The model's own forward, with the suite's logits in place of its encoder and output layers, "
    "and num_items_in_batch, on which Trainer relies."
)
_WITHOUT_COUNT = "The same forward without num_items_in_batch, as in a training loop of one's own."
_NO_POOL = (
    "It has no option for the ids of random replacements; the suite's policy keeps special ids out "
    "of them."
)
_WORDS = "Words of several tokens, given to it as character offsets that touch."
_WORDS_ALONE = (
    f"{_WORDS} In this mode it shows nothing but the mask token, whatever the weights: policies "
    "with others are not asked for."
)
_LOADED = (
    "sample_parallel is a DataLoader with num_workers and Trainer's seed_worker, after set_seed "
    "with one seed on every rank."
)
_AROUND = (
    "The lines around ce are ours, the division included. The mask is float32 and comes from "
    "outside the compiled function."
)


def _torch(name: str, function: str, title: str, about: str, **rest: Mapping[str, str]) -> Peer:
    return Peer(name, title, f"{_ADAPTERS}.torch_losses:{function}", _TORCH, about, **rest)


def _hf_loss(name: str, function: str, title: str, about: str, upstream: Mapping[str, str]) -> Peer:
    return Peer(name, title, f"{_ADAPTERS}.hf_losses:{function}", _HF, about, upstream)


def _optax(name: str, function: str, title: str, about: str, **rest: Mapping[str, str]) -> Peer:
    return Peer(name, title, f"{_ADAPTERS}.optax_losses:{function}", _OPTAX, about, **rest)


def _collator(
    name: str, function: str, options: str, about: str, **rest: Mapping[str, str]
) -> Peer:
    title = f"Hugging Face DataCollatorForLanguageModeling({options})"
    packages = {**_HF, "tokenizers": "tokenizers"}
    return Peer(name, title, f"{_ADAPTERS}.hf_collators:{function}", packages, about, **rest)


def _trainer(
    name: str,
    function: str,
    options: str,
    about: str,
    upstream: Mapping[str, str],
    own: Mapping[str, str],
) -> Peer:
    return Peer(
        name,
        f"Hugging Face Trainer{options}",
        f"{_ADAPTERS}.hf_trainer:{function}",
        _HF_TRAINER,
        about,
        {**_TRAINER, **upstream},
        causes={**causes.TRAINER, **own},
    )


def _keras(
    name: str, function: str, path: str, about: str, not_asked: Mapping[str, str] | None = None
) -> Peer:
    title = f"keras-hub MaskedLMMaskGenerator, {path}"
    target = f"{_ADAPTERS}.keras_hub_masks:{function}"
    return Peer(name, title, target, _KERAS, about, not_asked=not_asked or {})


#: Chapter DST draws 32,768 rows and more; one row at a time, each takes milliseconds here.
_TOO_SLOW = {
    check.requirement: "its rows are masked one by one: a test of counts would take hours"
    for check in CHECKS
    if check.requirement.startswith("MLM-DST-") and check.port.startswith("sample")
}


PEERS: Sequence[Peer] = (
    _torch(
        "torch-mean",
        "cross_entropy_mean",
        "torch F.cross_entropy",
        'The default, reduction="mean", on flattened logits and labels.',
        upstream=_TORCH_NAN,
    ),
    _torch(
        "torch-sum",
        "cross_entropy_sum",
        'torch F.cross_entropy(reduction="sum")',
        "On flattened logits and labels.",
    ),
    _torch(
        "torch-linear",
        "linear_cross_entropy",
        'torch F.linear_cross_entropy(reduction="sum")',
        "Hidden states and an output layer in one call; needs torch 2.13.",
    ),
    _torch(
        "torch-linear-chunked",
        "linear_cross_entropy_chunked",
        "torch F.linear_cross_entropy(options=LinearCrossEntropyOptions(batch_chunk_size=4))",
        "The same by chunks of four positions, gradients computed in the forward pass.",
    ),
    _hf_loss("hf-bert", "bert", "Hugging Face BertForMaskedLM", _WITH_COUNT, _HF_COUNT),
    _hf_loss(
        "hf-bert-mean",
        "bert_mean",
        "Hugging Face BertForMaskedLM, no count given",
        _WITHOUT_COUNT,
        _HF_NAN,
    ),
    _hf_loss("hf-roberta", "roberta", "Hugging Face RobertaForMaskedLM", _WITH_COUNT, _HF_COUNT),
    _hf_loss(
        "hf-distilbert", "distilbert", "Hugging Face DistilBertForMaskedLM", _WITH_COUNT, _HF_COUNT
    ),
    _hf_loss("hf-electra", "electra", "Hugging Face ElectraForMaskedLM", _WITH_COUNT, _HF_COUNT),
    _hf_loss("hf-eurobert", "eurobert", "Hugging Face EuroBertForMaskedLM", _WITH_COUNT, {}),
    _hf_loss("hf-modernbert", "modernbert", "Hugging Face ModernBertForMaskedLM", _WITH_COUNT, {}),
    _hf_loss(
        "hf-modernbert-mean",
        "modernbert_mean",
        "Hugging Face ModernBertForMaskedLM, no count given",
        _WITHOUT_COUNT,
        _HF_NAN,
    ),
    _hf_loss(
        "hf-modernbert-sparse",
        "modernbert_sparse",
        "Hugging Face ModernBertForMaskedLM(sparse_prediction=True)",
        _WITH_COUNT,
        {},
    ),
    _optax(
        "optax-mean",
        "masked_mean",
        "optax, ignored labels made 0",
        "sum(ce(logits, where(mask, labels, 0)) * mask) / sum(mask), with ce = "
        f"softmax_cross_entropy_with_integer_labels. {_AROUND}",
    ),
    _optax(
        "optax-mean-raw",
        "raw_labels_mean",
        "optax, labels as they are",
        f"sum(ce(logits, labels) * mask) / sum(mask), labels with -100. {_AROUND}",
        upstream=dict.fromkeys(("MLM-OBJ-1", "MLM-OBJ-8", "MLM-LIK-6"), _OPTAX_LABELS),
    ),
    _optax(
        "optax-mean-where",
        "where_mean",
        "optax, where=mask",
        f"sum(ce(logits, where(mask, labels, 0), where=mask)) / sum(mask). {_AROUND}",
    ),
    _optax(
        "optax-score",
        "score",
        "optax, position by position",
        "where(selected, -ce(logits, targets), 0), its weighted sum, and jax.grad of that; the "
        "lines around ce are ours.",
        upstream={"MLM-ERR-3": _OPTAX_LABELS},
    ),
    _optax(
        "optax-score-float32",
        "score_float32",
        "optax, position by position, logits converted to float32",
        "The same after logits.astype(float32); float64 logits stay float64.",
        upstream={"MLM-ERR-3": _OPTAX_LABELS},
    ),
    _trainer(
        "hf-trainer",
        "own_loss",
        "",
        _UPDATES,
        dict.fromkeys(("MLM-ENC-12", "MLM-TRN-1"), _HF_SUMS),
        causes.TRAINER_AND_BERT,
    ),
    _trainer(
        "hf-trainer-loss",
        "summed_loss",
        "(compute_loss_func=...)",
        f"{_UPDATES} compute_loss_func is the sum of the losses over num_items_in_batch.",
        {},
        {},
    ),
    _collator(
        "hf-collator",
        "torch_path",
        'return_tensors="pt"',
        "Rate and weights as options; the special ids are the tokenizer's special tokens. "
        f"{_NO_POOL} {_LOADED}",
        upstream=_HF_POOL,
    ),
    _collator(
        "hf-collator-seed",
        "seeded_torch_path",
        'seed=42, return_tensors="pt"',
        f"The same collator with a seed of its own, in workers alone. {_LOADED}",
        upstream=dict.fromkeys(("MLM-DST-17", "MLM-DST-19"), _HF_SEED),
    ),
    _collator(
        "hf-collator-numpy",
        "numpy_path",
        'return_tensors="np"',
        f"The same options on the other path, which is another implementation. {_NO_POOL}",
        upstream=_HF_POOL,
    ),
    _collator(
        "hf-collator-words",
        "whole_word_torch_path",
        'whole_word_mask=True, return_tensors="pt"',
        _WORDS_ALONE,
        causes=causes.COLLATOR_OF_WORDS,
    ),
    _collator(
        "hf-collator-words-numpy",
        "whole_word_numpy_path",
        'whole_word_mask=True, return_tensors="np"',
        _WORDS_ALONE,
        causes=causes.COLLATOR_OF_WORDS,
    ),
    _keras(
        "keras-hub",
        "python_path",
        "Python path",
        "Called with arrays. Its own law is Bernoulli; ineligible positions are shown as an id "
        f"among unselectable_token_ids. {_NO_POOL}",
    ),
    _keras(
        "keras-hub-tensorflow",
        "tensorflow_path",
        "TensorFlow path",
        "As in a tf.data pipeline. Its own law is a fixed count, ceil(rate * selectable tokens); "
        f"asked for a Bernoulli rate it is given that rate. {_NO_POOL}",
        not_asked=_TOO_SLOW,
    ),
)


def chosen(only: Sequence[str] = ()) -> list[Peer]:
    """The peers of those names (none given: all), in the order of the registry.

    `ACCURACY` is a known name that is no peer's.

    Raises
    ------
    BadCallError : a name that none has.
    """
    known = {*(peer.name for peer in PEERS), ACCURACY}
    unknown = [name for name in only if name not in known]
    if unknown:
        names = ", ".join([*(peer.name for peer in PEERS), ACCURACY])
        raise BadCallError(f"no implementation is called {', '.join(unknown)}; there are: {names}")
    return [peer for peer in PEERS if not only or peer.name in only]
