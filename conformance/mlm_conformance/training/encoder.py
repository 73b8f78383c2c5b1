"""The encoder in balls, forward and back (chapter ENC)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.training import dropout as sites
from mlm_conformance.training.attention import attention, visible
from mlm_conformance.training.balls import Ball, Rounding, lengths
from mlm_conformance.training.dropout import Dropout
from mlm_conformance.training.layers import gelu, linear, table_gradient
from mlm_conformance.training.names import LAYER
from mlm_conformance.training.norms import layer_norm
from mlm_spec.training.config import EncoderConfig

__all__ = ["Encoder"]

Array = NDArray[Any]
Pull = Callable[[Ball], Ball]
Batch = dict[str, Array]


@dataclass(slots=True)
class Encoder:
    """One micro-batch on its way through the encoder, and its gradients on theirs.

    Attributes
    ----------
    r, config, parameters : the arithmetic; which encoder; its parameters by name.
    batch : the arrays of the micro-batch.
    dropout : what is dropped; None: nothing.
    terms : positions of the whole update, over which gradients are summed.
    gradients : of the sum of log-likelihoods by each parameter, once it is known.
    """

    r: Rounding
    config: EncoderConfig
    parameters: dict[str, Ball]
    batch: Batch
    dropout: Dropout | None
    terms: int
    gradients: dict[str, Ball] = field(default_factory=dict)

    def encode(self) -> tuple[Ball, Callable[[Ball], None]]:
        """The last hidden states (B·T, d), and what takes their gradient to the parameters."""
        h, pull_embeddings = self._embed()
        pulls: list[Pull] = []
        for i in range(self.config.num_hidden_layers):
            h, pull = self._layer(i, h)
            pulls.append(pull)

        def pull_all(dh: Ball) -> None:
            for pull in reversed(pulls):
                dh = pull(dh)
            pull_embeddings(dh)

        return h, pull_all

    def collect(self, name: str, gradient: Ball) -> None:
        """Add a part of a parameter's gradient; tied parameters have two."""
        known = self.gradients.get(name)
        self.gradients[name] = gradient if known is None else self.r.add(known, gradient)

    def dense(self, name: str, x: Ball) -> tuple[Ball, Pull]:
        """A linear layer of the encoder, by name."""
        weight, bias = self._pair(name)
        y, pull = linear(self.r, x, weight, bias, self.terms)
        return y, self._collecting(name, pull)

    def norm(self, name: str, x: Ball) -> tuple[Ball, Pull]:
        """A LayerNorm of the encoder, by name."""
        weight, bias = self._pair(name)
        y, pull = layer_norm(self.r, x, weight, bias, self.config.layer_norm_eps, self.terms)
        return y, self._collecting(name, pull)

    def _pair(self, name: str) -> tuple[Ball, Ball]:
        return self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]

    def _collecting(self, name: str, pull: Callable[[Ball], tuple[Ball, Ball, Ball]]) -> Pull:
        def collecting(dy: Ball) -> Ball:
            dx, dweight, dbias = pull(dy)
            self.collect(f"{name}.weight", dweight)
            self.collect(f"{name}.bias", dbias)
            return dx

        return collecting

    def _embed(self) -> tuple[Ball, Callable[[Ball], None]]:
        taken = {"word": "inputs", "position": "position_ids", "token_type": "token_type_ids"}
        tables = {f"bert.embeddings.{n}_embeddings.weight": f for n, f in taken.items()}
        ids = {name: self.batch[field].reshape(-1) for name, field in tables.items()}
        rows = [self.parameters[name].moved(_rows_of(ids[name])) for name in tables]
        h, pull_norm = self.norm("bert.embeddings.LayerNorm", self.r.add(*rows))
        h, pull_drop = self._drop(sites.EMBEDDINGS, 0, h)

        def pull(dh: Ball) -> None:
            de = pull_norm(pull_drop(dh))
            for name in tables:
                size = len(self.parameters[name].value)
                self.collect(name, table_gradient(self.r, size, ids[name], de, self.terms))

        return h, pull

    def _layer(self, i: int, h: Ball) -> tuple[Ball, Pull]:
        name = LAYER.format(i)
        context, pull_context = self._attend(i, h)
        o, pull_o = self.dense(f"{name}attention.output.dense", context)
        o, pull_d2 = self._drop(sites.ATTENTION_OUTPUT, i, o)
        a, pull_a = self.norm(f"{name}attention.output.LayerNorm", self.r.add(h, o))
        f, pull_1 = self.dense(f"{name}intermediate.dense", a)
        f, pull_g = gelu(self.r, f)
        f, pull_2 = self.dense(f"{name}output.dense", f)
        f, pull_d3 = self._drop(sites.OUTPUT, i, f)
        out, pull_out = self.norm(f"{name}output.LayerNorm", self.r.add(a, f))

        def pull(dout: Ball) -> Ball:
            ds = pull_out(dout)
            da = self.r.add(ds, pull_1(pull_g(pull_2(pull_d3(ds)))))
            dt = pull_a(da)
            return self.r.add(dt, *pull_context(pull_o(pull_d2(dt))))

        return out, pull

    def _attend(self, i: int, h: Ball) -> tuple[Ball, Callable[[Ball], list[Ball]]]:
        """The context of each position, and the three gradients by the hidden states."""
        name, heads = f"{LAYER.format(i)}attention.self.", self.config.num_attention_heads
        made = [self.dense(f"{name}{part}", h) for part in ("query", "key", "value")]
        q, k, v = (self._parted(y) for y, _ in made)
        p, kept = Fraction(self.config.attention_dropout), None
        if self.dropout is not None and p > 0:
            kept = self.dropout.probabilities(i, p, heads)
        seen = visible(self.batch["attention_mask"], self.batch["sequence_id"])[:, None]
        context, pull = attention(self.r, q, k, v, seen, kept, self._factor(p))

        def pull_all(dc: Ball) -> list[Ball]:
            parts = pull(self._parted(dc))
            flat = [self._joined(part) for part in parts]
            return [each(part) for part, (_, each) in zip(flat, made, strict=True)]

        return self._joined(context), pull_all

    def _drop(self, site: int, layer: int, x: Ball) -> tuple[Ball, Pull]:
        p = Fraction(self.config.hidden_dropout)
        if self.dropout is None or p == 0:
            return x, lambda dy: dy
        width = x.value.shape[-1]
        kept = self.dropout.units(site, layer, p, width).reshape(x.value.shape)

        def drop(y: Ball) -> Ball:
            left = y.moved(lambda v: np.where(kept, v, 0), lambda length: length)
            return self.r.scaled(left, self._factor(p), 3)

        return drop(x), drop

    def _factor(self, p: Fraction) -> Any:
        """1 / (1 − p)."""
        kind = next(iter(self.parameters.values())).value.dtype.type
        return kind(p.denominator) / kind(p.denominator - p.numerator)

    def _parted(self, x: Ball) -> Ball:
        """(B·T, d) by heads (B, H, T, d/H); no part of a row is longer off than the row."""
        rows, columns = self.batch["inputs"].shape
        heads = self.config.num_attention_heads

        def parted(y: Array) -> Array:
            return y.reshape(rows, columns, heads, -1).transpose(0, 2, 1, 3)

        parts = x.moved(parted)
        whole = x.errors.reshape(rows, 1, columns)
        return Ball(parts.value, parts.radius, np.minimum(whole, parts.errors))

    def _joined(self, x: Ball) -> Ball:
        """And back."""
        rows, heads, columns, width = x.value.shape

        def joined(y: Array) -> Array:
            return y.transpose(0, 2, 1, 3).reshape(rows * columns, heads * width)

        return Ball(joined(x.value), joined(x.radius), lengths(x.errors.swapaxes(1, 2)).reshape(-1))


def _rows_of(ids: Array) -> Callable[[Array], Array]:
    return lambda table: table[ids]
