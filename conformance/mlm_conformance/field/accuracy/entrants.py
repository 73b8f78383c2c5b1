"""Which implementations are in the league, and where they are.  No framework is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlm_conformance.field.registry import Peer

__all__ = ["ENTRANTS"]

_FORMS = "mlm_conformance.field.accuracy.forms_"
_NUMPY = {"numpy": "numpy", "ml_dtypes": "ml_dtypes"}
_SCIPY = {"scipy": "scipy"}
_TORCH = {"torch": "torch"}
_HF = {"torch": "torch", "transformers": "transformers"}
_JAX = {"jax": "jax"}
_OPTAX = {"jax": "jax", "optax": "optax"}

_BY_HAND = "Written by hand; bfloat16 is that of ml_dtypes."
_CROSS_ENTROPY = "softmax_cross_entropy_with_integer_labels"


def _entrant(name: str, target: str, packages: Mapping[str, str], title: str, about: str) -> Peer:
    return Peer(name, title, f"{_FORMS}{target}", packages, about)


ENTRANTS: Sequence[Peer] = (
    _entrant(
        "mlm-spec",
        "numpy:own",
        _NUMPY,
        "mlm_spec.log_likelihood",
        "This project's own reference in float64: pivot, log1p and two refinements.",
    ),
    _entrant(
        "numpy-pivot",
        "numpy:pivot_log1p",
        _NUMPY,
        "NumPy (z_t − z_r) − log1p(Σ_{j≠r} e^(z_j − z_r))",
        f"r is the target if it attains the maximum, else the first maximum. {_BY_HAND}",
    ),
    _entrant(
        "numpy-shifted",
        "numpy:shifted_minus_log",
        _NUMPY,
        "NumPy (z_t − max) − log Σ e^(z − max)",
        _BY_HAND,
    ),
    _entrant(
        "numpy-logsumexp",
        "numpy:max_plus_log",
        _NUMPY,
        "NumPy z_t − (max + log Σ e^(z − max))",
        _BY_HAND,
    ),
    _entrant(
        "numpy-log-softmax",
        "numpy:log_of_softmax",
        _NUMPY,
        "NumPy log(e^(z_t − max) / Σ e^(z − max))",
        _BY_HAND,
    ),
    _entrant("numpy-ratio", "numpy:log_of_ratio", _NUMPY, "NumPy log(e^z_t / Σ e^z)", _BY_HAND),
    _entrant(
        "scipy-log-softmax",
        "scipy:log_softmax",
        _SCIPY,
        "scipy.special.log_softmax",
        "On one row.",
    ),
    _entrant(
        "scipy-logsumexp",
        "scipy:logsumexp",
        _SCIPY,
        "z_t − scipy.special.logsumexp",
        "On one row; the subtraction is NumPy's.",
    ),
    _entrant(
        "torch-log-softmax",
        "torch:log_softmax",
        _TORCH,
        "torch.log_softmax",
        "On one row.",
    ),
    _entrant(
        "torch-cross-entropy",
        "torch:cross_entropy",
        _TORCH,
        "torch F.cross_entropy",
        "On one row, the sign turned.",
    ),
    _entrant(
        "torch-logsumexp",
        "torch:logsumexp",
        _TORCH,
        "z_t − torch.logsumexp",
        "On one row; the subtraction is PyTorch's.",
    ),
    _entrant(
        "torch-softmax",
        "torch:log_of_softmax",
        _TORCH,
        "torch.log(torch.softmax)",
        "On one row.",
    ),
    _entrant(
        "hf-masked-lm",
        "hf:for_masked_lm",
        _HF,
        "Hugging Face ForMaskedLMLoss",
        "transformers.loss.loss_utils, one position a call, the sign turned. It converts logits "
        "of every dtype to float32, and answers in it.",
    ),
    _entrant(
        "hf-cross-entropy",
        "hf:fixed_cross_entropy",
        _HF,
        "Hugging Face fixed_cross_entropy",
        "The function that ForMaskedLMLoss calls after the conversion, here without it.",
    ),
    _entrant(
        "jax-log-softmax",
        "jax:log_softmax",
        _JAX,
        "jax.nn.log_softmax",
        "On one row; JAX compiles it by itself. With jax_enable_x64.",
    ),
    _entrant(
        "optax",
        "optax:eager",
        _OPTAX,
        f"optax {_CROSS_ENTROPY}",
        "On one row, the sign turned, one operation after the other. With jax_enable_x64.",
    ),
    _entrant(
        "optax-compiled",
        "optax:compiled",
        _OPTAX,
        f"jax.jit(optax {_CROSS_ENTROPY})",
        "The same, compiled as in a training step.",
    ),
)
