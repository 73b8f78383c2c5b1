"""BERT with its masked-language-model head as an `nn.Module` (chapter ENC).

The names and shapes of the parameters are those of the checkpoints that everybody has, so a
``state_dict`` moves both ways.  The output layer is the word embedding itself.

Parameters are kept in their own dtype and converted where they are used.  So gradients of a
bfloat16 run arrive, and are added up, in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_torch.attention import attend, merge_heads, split_heads, visible_pairs
from mlm_torch.dropout import Dropout, KeyGrid, Site, dropout_keys, find_key_grid
from mlm_torch.gathering import find_slots, gather, gather_values
from mlm_torch.head import step_head_log_likelihood_sum
from mlm_torch.objective import StepSum
from mlm_torch.places import Places, find_places
from mlm_torch.precision import project
from mlm_torch.status import Found, status_word

__all__ = ["Layout", "MaskedLanguageModel", "layout_of"]


class Layout(NamedTuple):
    """How a batch lies in its rows.

    Attributes
    ----------
    places : of all positions.
    visible : from `visible_pairs`; None where all of a row sees all of it.
    real : bool (B, T), the positions that are no padding; None where all are.
    grid : of the attention's keys; None where attention probabilities are not dropped.
    """

    places: Places
    visible: Tensor | None
    real: Tensor | None
    grid: KeyGrid | None = None


def layout_of(batch: TrainingBatch, *, whole: bool = False, grid: bool = False) -> Layout:
    """The layout of a batch of tensors.

    Parameters
    ----------
    batch : on any device.
    whole : the caller knows that each row is one sequence without padding.
    grid : share calls of the generator among attention's keys; waits for the device.

    Source: chapter ENC.  Bound: exact.
    """
    places = find_places(batch.sequence_id, batch.position)
    keys = find_key_grid(places.position) if grid else None
    if whole:
        return Layout(places, None, None, keys)
    visible = visible_pairs(batch.attention_mask, places)
    return Layout(places, visible, batch.attention_mask, keys)


class MaskedLanguageModel(nn.Module):
    """BERT (Devlin et al. 2018) with the masked-language-model head.

    Parameters
    ----------
    config : which encoder.

    Notes
    -----
    Weights start normal with standard deviation ``initializer_range``, biases at 0, LayerNorms at
    the identity, from the generator of PyTorch.  There is no mode of training and evaluation:
    units are dropped where a call is given the key of an update.

    >>> config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                        num_attention_heads=2, intermediate_size=8)
    >>> model = MaskedLanguageModel(config)
    >>> len(list(model.parameters())), model.cls["predictions"].bias.shape
    (26, torch.Size([9]))
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.bert = nn.ModuleDict({"embeddings": _Embeddings(config), "encoder": encoder})
        self.cls = nn.ModuleDict({"predictions": _Predictions(config)})
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new weights."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=self.config.initializer_range)
            else:
                parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)

    def compile_parts(self, backend: str = "inductor") -> None:
        """Have `torch.compile` make programs of the embeddings, of a layer, and of the head.

        All layers share theirs, but for the last, which goes on with selected positions only.  So
        the time it takes does not grow with their number.
        """
        for part in (
            self.bert["embeddings"],
            *self.bert["encoder"]["layer"],
            self.cls["predictions"],
        ):
            part.compile(fullgraph=True, backend=backend)

    def forward(
        self,
        batch: TrainingBatch,
        layout: Layout,
        capacity: int,
        dtype: torch.dtype,
        run: Tensor | None = None,
    ) -> StepSum:
        """The sum of log-likelihoods of a micro-batch, differentiable, and what was found.

        Static shapes and no synchronisation with the host.

        Parameters
        ----------
        batch : tensors on the device of the parameters; ids are in range.
        layout : from `layout_of`.
        capacity : how many selected positions there is room for.
        dtype : in which products are taken.
        run : int32 (4,), from `run_key`, of an update; None: nothing is dropped.

        Returns
        -------
        StepSum : sum in nats, count, status; as `step_head_log_likelihood_sum`.
        """
        slots = find_slots(batch.selected, capacity)
        # Behind the last attention a position is on its own, and only the selected ones matter.
        rows = self._hidden(batch, layout, dtype, run, slots.index)[-1]
        targets = gather_values(batch.targets, slots.index)
        found = self.cls["predictions"](rows, self._words(), targets, slots.used)
        overflow = status_word(Found(overflow=slots.count > capacity))
        return found._replace(status=found.status | overflow)

    def hidden_states(
        self,
        batch: TrainingBatch,
        layout: Layout,
        dtype: torch.dtype,
        run: Tensor | None = None,
    ) -> list[Tensor]:
        """h⁰ … h^L, each (B, T, d); arguments as in `forward`."""
        return self._hidden(batch, layout, dtype, run, None)

    def _words(self) -> Tensor:
        return self.bert["embeddings"].word_embeddings.weight

    def _hidden(
        self,
        batch: TrainingBatch,
        layout: Layout,
        dtype: torch.dtype,
        run: Tensor | None,
        index: Tensor | None,
    ) -> list[Tensor]:
        """h⁰ … h^L; with ``index`` the last one only at these flat places, (N, d)."""
        layers = self.bert["encoder"]["layer"]
        keys = None if run is None else dropout_keys(run, len(layers))

        def dropout(number: int) -> Dropout | None:
            return None if keys is None else Dropout(keys[number], layout.places, layout.grid)

        states = [self.bert["embeddings"](batch, dtype, dropout(0))]
        for number, layer in enumerate(layers):
            last = index if number == len(layers) - 1 else None
            states.append(layer(states[-1], layout, dropout(number), last))
        if index is not None and not len(layers):
            states.append(gather(states[-1], index))
        return states


class _Embeddings(nn.Module):
    """h⁰ = D₀(LN(word + position + token type))."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.p = config.hidden_dropout
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, config.layer_norm_eps)

    def forward(self, batch: TrainingBatch, dtype: torch.dtype, dropout: Dropout | None) -> Tensor:
        summed = self.word_embeddings(batch.inputs)
        summed = summed + self.position_embeddings(batch.position_ids)
        summed = summed + self.token_type_embeddings(batch.token_type_ids)
        states = self.LayerNorm(summed).to(dtype)
        if dropout is not None and self.p:
            states = dropout.units(states, Site.EMBEDDINGS, self.p)
        return states


class _Layer(nn.Module):
    """a = LN(h + D₂(attention(h)));  h' = LN(a + D₃(W₂·gelu(W₁·a)))."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, inner, epsilon = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.p, self.attention_p = config.hidden_dropout, config.attention_dropout

        def output(size: int) -> nn.ModuleDict:
            parts = {"dense": nn.Linear(size, width), "LayerNorm": nn.LayerNorm(width, epsilon)}
            return nn.ModuleDict(parts)

        parts = {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(parts), "output": output(width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = output(inner)

    def forward(
        self, states: Tensor, layout: Layout, dropout: Dropout | None, index: Tensor | None
    ) -> Tensor:
        context = self._context(states, layout, dropout)
        if index is not None:
            states, context = gather(states, index), gather(context, index)
            dropout = None if dropout is None else dropout.at(index)
        attended = self._add(states, context, self.attention["output"], dropout, _ATTENTION_OUTPUT)
        inner = functional.gelu(_linear(attended, self.intermediate["dense"]))
        return self._add(attended, inner, self.output, dropout, _OUTPUT)

    def _context(self, states: Tensor, layout: Layout, dropout: Dropout | None) -> Tensor:
        parts = (self.attention["self"][name] for name in ("query", "key", "value"))
        heads = [split_heads(_linear(states, part), self.heads) for part in parts]
        drop = None
        if dropout is not None and self.attention_p:

            def drop(values: Tensor) -> Tensor:
                return dropout.probabilities(values, self.attention_p)

        context = merge_heads(attend(*heads, layout.visible, drop))
        if layout.real is None:
            return context
        return torch.where(layout.real[..., None], context, 0.0)

    def _add(
        self,
        states: Tensor,
        values: Tensor,
        output: nn.ModuleDict,
        dropout: Dropout | None,
        site: Site,
    ) -> Tensor:
        added = _linear(values, output["dense"])
        if dropout is not None and self.p:
            added = dropout.units(added, site, self.p)
        return _normalised(states + added, output["LayerNorm"])


_ATTENTION_OUTPUT, _OUTPUT = Site.ATTENTION_OUTPUT, Site.OUTPUT


class _Predictions(nn.Module):
    """t = LN(gelu(Wₜ·h + bₜ)), and the objective on t·Wᵀ + b with the word embeddings W."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": norm})
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, rows: Tensor, words: Tensor, targets: Tensor, used: Tensor) -> StepSum:
        """Rows (C, d), words (V, d), targets (C,), used (C,)."""
        inner = functional.gelu(_linear(rows, self.transform["dense"]))
        inner = _normalised(inner, self.transform["LayerNorm"])
        layer = (words.to(rows.dtype), self.bias.to(rows.dtype))
        return step_head_log_likelihood_sum(
            inner[None], *layer, targets[None], used[None], None, len(used)
        )


def _linear(values: Tensor, layer: nn.Linear) -> Tensor:
    dtype = values.dtype
    return project(values, layer.weight.to(dtype), layer.bias.to(dtype)).to(dtype)


def _normalised(values: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm in the dtype of its parameters."""
    return norm(values.to(norm.weight.dtype)).to(values.dtype)
