"""The parameters of the encoder: names, shapes, and which of them decay (chapters ENC and OPT)."""

from __future__ import annotations

from mlm_spec.training.config import EncoderConfig

__all__ = ["LAYER", "decays", "shapes"]

LAYER = "bert.encoder.layer.{}."
_EMBEDDINGS = "bert.embeddings."
_TRANSFORM = "cls.predictions.transform."


def shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Each parameter's shape by its name, in the order of the encoder."""
    d, f, vocab = config.hidden_size, config.intermediate_size, config.vocab_size
    tables = {
        "word": vocab,
        "position": config.max_position_embeddings,
        "token_type": config.type_vocab_size,
    }
    found: dict[str, tuple[int, ...]] = {
        f"{_EMBEDDINGS}{name}_embeddings.weight": (rows, d) for name, rows in tables.items()
    }
    found |= _norm(f"{_EMBEDDINGS}LayerNorm", d)
    for i in range(config.num_hidden_layers):
        layer = LAYER.format(i)
        for name in ("query", "key", "value"):
            found |= _dense(f"{layer}attention.self.{name}", d, d)
        found |= _dense(f"{layer}attention.output.dense", d, d)
        found |= _norm(f"{layer}attention.output.LayerNorm", d)
        found |= _dense(f"{layer}intermediate.dense", d, f)
        found |= _dense(f"{layer}output.dense", f, d)
        found |= _norm(f"{layer}output.LayerNorm", d)
    found |= _dense(f"{_TRANSFORM}dense", d, d)
    found |= _norm(f"{_TRANSFORM}LayerNorm", d)
    return {**found, "cls.predictions.bias": (vocab,)}


def decays(name: str, shape: tuple[int, ...]) -> bool:
    """Whether weight decay moves a parameter: matrices, embeddings among them."""
    del name  # the shape alone decides
    return len(shape) == 2


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
