"""The encoder of each backend by itself, beside what its session says.

A session gives no hidden states, so this looks inside: the reference's function, the method of the
module of PyTorch, and the pure function of JAX, which gives the last state only and is run on the
first n layers for the n-th.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from mlm_conformance.resolve import resolve
from numpy.typing import NDArray

from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.encoder import hidden_states
from mlm_spec.training.parameters import shapes

__all__ = ["BACKENDS", "HIDDEN", "Found", "hidden_of", "session_run"]

Array = NDArray[Any]
States = list[Array]


class Found(NamedTuple):
    """The sum in nats, and the gradients of the sum, as a session gives them."""

    sum: float
    gradients: dict[str, Array]


def hidden_of(
    backend: str,
    parameters: Mapping[str, Array],
    batch: TrainingBatch,
    config: EncoderConfig,
    precision: str = "float64",
    dropout: Dropout | None = None,
) -> States:
    """h⁰ … h^L of a backend, in float64, each (B, T, d); at padding there may be anything.

    Parameters
    ----------
    backend : a name of `HIDDEN`.
    parameters, batch, config : of NumPy.
    precision : ``"float64"`` or ``"float32"``; the reference knows the first.
    dropout : the seed and the number of the update; None: nothing is dropped.
    """
    rounded = {name: value.astype(precision) for name, value in parameters.items()}
    found = HIDDEN[backend](rounded, batch, config, precision, dropout)
    return [np.asarray(state).astype(np.float64) for state in found]


def session_run(
    backend: str,
    parameters: Mapping[str, Array],
    batch: TrainingBatch,
    config: EncoderConfig,
    dropout: Dropout | None = None,
) -> Found:
    """Sum and gradients of a micro-batch, by the ``session`` of a backend, in float64.

    Parameters
    ----------
    dropout : of the first update, since it is a new session; None: the encoder drops nothing.
    """
    number, seed = (1, 0) if dropout is None else (dropout.update, dropout.seed)
    assert number == 1
    training = TrainingConfig(1e-3, 0, 1, seed=seed, precision="float64")
    encoder = config.to_mapping()
    if dropout is None:
        encoder |= {"hidden_dropout": 0, "attention_dropout": 0}
    session = resolve(backend).session(
        encoder=encoder, training=training.to_mapping(), parameters=dict(parameters)
    )
    found = session.gradients([batch._asdict()])
    # Its gradients are those of the loss, −sum / count.
    count = int(found["count"])
    gradients = {name: -count * value for name, value in found["gradients"].items()}
    return Found(float(found["sum"]), gradients)


def _of_numpy(
    parameters: Mapping[str, Array],
    batch: TrainingBatch,
    config: EncoderConfig,
    precision: str,
    dropout: Dropout | None,
) -> Any:
    assert precision == "float64"
    return hidden_states(parameters, batch, config, dropout=dropout)


def _of_torch(
    parameters: Mapping[str, Array],
    batch: TrainingBatch,
    config: EncoderConfig,
    precision: str,
    dropout: Dropout | None,
) -> Any:
    import torch
    from mlm_torch.dropout import run_key
    from mlm_torch.encoder import MaskedLanguageModel
    from mlm_torch.micro_batches import on_device, read_micro_batch
    from mlm_torch.precision import full_precision
    from mlm_torch.random_words import make_key

    dtype = getattr(torch, precision)
    model = MaskedLanguageModel(config).to(dtype)
    model.load_state_dict({name: torch.from_numpy(x) for name, x in parameters.items()})
    fields = {name: torch.from_numpy(x) for name, x in batch._asdict().items()}
    given = read_micro_batch(fields, config, None)
    moved, layout = on_device(given, torch.device("cpu"), None, 0, bool(config.attention_dropout))
    run = None
    if dropout is not None:
        run = run_key(make_key(dropout.seed, 0)[:2], torch.tensor(dropout.update))
    with torch.no_grad(), full_precision():
        return [state.numpy() for state in model.hidden_states(moved, layout, dtype, run)]


def _of_jax(
    parameters: Mapping[str, Array],
    batch: TrainingBatch,
    config: EncoderConfig,
    precision: str,
    dropout: Dropout | None,
) -> Any:
    import jax
    import jax.numpy as jnp
    from mlm_jax.training.dropout import Places, dropper, keep_all, site_keys
    from mlm_jax.training.encoder import encode

    found = []
    with jax.enable_x64(precision == "float64"):
        moved = TrainingBatch(*(jnp.asarray(_narrow(x)) for x in batch))
        drop = keep_all
        if dropout is not None:
            seed = np.array([dropout.seed & 0xFFFFFFFF, dropout.seed >> 32], np.uint32)
            layers = max(config.num_hidden_layers, 1)
            keys = site_keys(seed, jnp.int32(dropout.update - 1), layers=layers)
            places = Places(moved.sequence_id, moved.position)
            drop = dropper(keys, places, config.hidden_dropout, config.attention_dropout)
        for layers in range(config.num_hidden_layers + 1):
            lower = _first_layers(config, layers)
            own = {name: jnp.asarray(parameters[name]) for name in shapes(lower)}
            found.append(np.array(encode(own, moved, lower, jnp.dtype(precision), drop)))
    return found


def _first_layers(config: EncoderConfig, layers: int) -> EncoderConfig:
    """The same encoder cut off behind some of its layers."""
    return EncoderConfig.from_mapping(config.to_mapping() | {"num_hidden_layers": layers})


def _narrow(values: Array) -> Array:
    """Ids in the 32 bits that JAX has without its wide types."""
    return values.astype(np.int32) if values.dtype == np.int64 else values


#: name: (parameters, batch, encoder, precision, dropout) → L + 1 arrays.
HIDDEN: dict[str, Callable[..., Any]] = {"numpy": _of_numpy, "torch": _of_torch, "jax": _of_jax}

BACKENDS = tuple(HIDDEN)
