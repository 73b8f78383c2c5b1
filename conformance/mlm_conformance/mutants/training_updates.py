"""Trainers with another AdamW, another learning rate, or an update of nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.trainer import Parts, wrong
from mlm_spec.training.config import TrainingConfig
from mlm_spec.training.optimizer import Moved, adamw, learning_rate
from mlm_spec.training.state import TrainingState

__all__ = [
    "a_constant_that_falls",
    "a_line_from_the_first_update",
    "a_micro_batch_of_nothing_empties_its_update",
    "a_plan_ends_with_an_error_of_its_own",
    "a_plan_goes_on_at_a_rate_of_0",
    "a_plan_goes_on_at_its_last_rate",
    "a_position_of_whole_updates",
    "an_update_of_nothing_advances_the_schedule",
    "an_update_of_nothing_takes_no_sequences",
    "betas_are_exchanged",
    "corrections_count_from_0",
    "decay_as_part_of_the_gradient",
    "decay_of_what_the_step_has_left",
    "decay_without_the_learning_rate",
    "dropout_counts_attempts",
    "embeddings_do_not_decay",
    "epsilon_before_the_correction",
    "epsilon_inside_the_root",
    "everything_decays",
    "moments_add_up",
    "no_bias_correction",
    "no_correction_of_the_second_moment",
    "no_decay",
    "no_warm_up",
    "nothing_counts_as_an_update",
    "nothing_decays_the_moments",
    "nothing_divides_by_zero",
    "nothing_moves_parameters",
    "rates_count_from_0",
    "the_correction_counts_attempts",
    "the_end_of_a_plan_is_seen_too_late",
    "the_last_rate_is_0",
    "the_second_moment_before_clipping",
]

_FIRST = "the_first_update_is_that_of_adamw"
_STEPS = "updates_follow_one_by_one"


def _moving(parts: Parts, change: Callable[..., Any]) -> Parts:
    """AdamW with a configuration that is changed first."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Any:
        return adamw(theta, g, m, v, n, change(config))

    return replace(parts, adamw=moved)


def _stepping(parts: Parts, step: Callable[..., Any]) -> Parts:
    """θ ← θ − step(θ, m, v, g, n, η, configuration), after the moments have moved."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Moved:
        rate = learning_rate(n, config)
        first = {k: config.beta1 * m[k] + (1 - config.beta1) * g[k] for k in theta}
        second = {k: config.beta2 * v[k] + (1 - config.beta2) * g[k] ** 2 for k in theta}
        new = {k: p - step(p, first[k], second[k], n, rate, config) for k, p in theta.items()}
        return Moved(new, first, second)

    return replace(parts, adamw=moved)


def _decay(p: Any, config: TrainingConfig) -> Any:
    return config.weight_decay * p if p.ndim == 2 else 0.0


@wrong("MLM-OPT-2", _STEPS, "https://github.com/asappresearch/revisit-bert-finetuning/issues/2")
def no_bias_correction(parts: Parts) -> Parts:
    """The moments are used as they are."""

    def step(p: Any, m: Any, v: Any, n: int, rate: float, c: TrainingConfig) -> Any:
        return rate * (m / (np.sqrt(v) + c.epsilon) + _decay(p, c))

    return _stepping(parts, step)


@wrong("MLM-OPT-2", _STEPS)
def no_correction_of_the_second_moment(parts: Parts) -> Parts:
    """Only the first moment is corrected."""

    def step(p: Any, m: Any, v: Any, n: int, rate: float, c: TrainingConfig) -> Any:
        return rate * (m / (1 - c.beta1**n) / (np.sqrt(v) + c.epsilon) + _decay(p, c))

    return _stepping(parts, step)


@wrong("MLM-OPT-2", _STEPS)
def corrections_count_from_0(parts: Parts) -> Parts:
    """The correction of an update is that of the one before; the first has its own."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Moved:
        late = max(n - 1, 1)
        rate = learning_rate(n, config) / learning_rate(late, config)
        fixed = replace(config, learning_rate=config.learning_rate * rate)
        return adamw(theta, g, m, v, late, fixed)

    return replace(parts, adamw=moved)


@wrong("MLM-OPT-5", _FIRST)
def epsilon_inside_the_root(parts: Parts) -> Parts:
    """The step is divided by √(v̂ + ε)."""

    def step(p: Any, m: Any, v: Any, n: int, rate: float, c: TrainingConfig) -> Any:
        below = np.sqrt(v / (1 - c.beta2**n) + c.epsilon)
        return rate * (m / (1 - c.beta1**n) / below + _decay(p, c))

    return _stepping(parts, step)


@wrong("MLM-OPT-5", _FIRST, "https://github.com/karpathy/nanochat/issues/304")
def epsilon_before_the_correction(parts: Parts) -> Parts:
    """ε is added to √v and corrected with it."""

    def step(p: Any, m: Any, v: Any, n: int, rate: float, c: TrainingConfig) -> Any:
        below = (np.sqrt(v) + c.epsilon) / np.sqrt(1 - c.beta2**n)
        return rate * (m / (1 - c.beta1**n) / below + _decay(p, c))

    return _stepping(parts, step)


@wrong("MLM-OPT-6", _FIRST)
def decay_without_the_learning_rate(parts: Parts) -> Parts:
    """Decay takes λ·θ, whatever the learning rate."""

    def step(p: Any, m: Any, v: Any, n: int, rate: float, c: TrainingConfig) -> Any:
        below = np.sqrt(v / (1 - c.beta2**n)) + c.epsilon
        return rate * m / (1 - c.beta1**n) / below + _decay(p, c) * c.learning_rate

    return _stepping(parts, step)


@wrong("MLM-OPT-6", _FIRST)
def decay_as_part_of_the_gradient(parts: Parts) -> Parts:
    """Decay is added to the gradient, and goes through the moments."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Any:
        whole = {k: g[k] + _decay(p, config) for k, p in theta.items()}
        return adamw(theta, whole, m, v, n, replace(config, weight_decay=0.0))

    return replace(parts, adamw=moved)


@wrong("MLM-OPT-6", _FIRST)
def decay_of_what_the_step_has_left(parts: Parts) -> Parts:
    """Decay takes its share of the parameter after the step of Adam."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Moved:
        found = adamw(theta, g, m, v, n, replace(config, weight_decay=0.0))
        rate = learning_rate(n, config)
        new = {k: p - rate * _decay(p, config) for k, p in found.parameters.items()}
        return found._replace(parameters=new)

    return replace(parts, adamw=moved)


@wrong("MLM-OPT-7", "vectors_do_not_decay", "https://github.com/CyberZHG/keras-bert/issues/60")
def everything_decays(parts: Parts) -> Parts:
    """LayerNorm and biases decay like matrices."""

    def step(p: Any, m: Any, v: Any, n: int, rate: float, c: TrainingConfig) -> Any:
        below = np.sqrt(v / (1 - c.beta2**n)) + c.epsilon
        return rate * (m / (1 - c.beta1**n) / below + c.weight_decay * p)

    return _stepping(parts, step)


@wrong("MLM-OPT-7", "vectors_do_not_decay")
def embeddings_do_not_decay(parts: Parts) -> Parts:
    """The tables of embeddings are taken for vectors."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Any:
        found = adamw(theta, g, m, v, n, config)
        plain = adamw(theta, g, m, v, n, replace(config, weight_decay=0.0))
        for name in theta:
            if "embeddings.weight" in name:
                found.parameters[name] = plain.parameters[name]
        return found

    return replace(parts, adamw=moved)


@wrong("MLM-OPT-7", "vectors_do_not_decay")
def no_decay(parts: Parts) -> Parts:
    """Nothing decays."""
    return _moving(parts, lambda c: replace(c, weight_decay=0.0))


@wrong("MLM-OPT-1", "moments_follow_their_averages")
def moments_add_up(parts: Parts) -> Parts:
    """The new gradient is added to what is left of the moments, without its factor 1 − β."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Any:
        found = adamw(theta, g, m, v, n, config)
        first = {k: config.beta1 * m[k] + g[k] for k in theta}
        second = {k: config.beta2 * v[k] + g[k] ** 2 for k in theta}
        return found._replace(exp_avg=first, exp_avg_sq=second)

    return replace(parts, adamw=moved)


@wrong("MLM-OPT-1", "moments_follow_their_averages")
def betas_are_exchanged(parts: Parts) -> Parts:
    """β₁ is taken for β₂."""
    return _moving(parts, lambda c: replace(c, beta1=c.beta2, beta2=c.beta1))


@wrong("MLM-OPT-1", "moments_follow_their_averages")
def the_second_moment_before_clipping(parts: Parts) -> Parts:
    """v averages the squares of gradients that are not clipped."""

    def direction(own: Parts, found: Any, training: TrainingConfig) -> Any:
        gradients, norm = parts.direction(own, found, training)
        whole = own.mean(found)
        return {k: np.stack([g, whole[k]]) for k, g in gradients.items()}, norm

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Any:
        right = adamw(theta, {k: both[0] for k, both in g.items()}, m, v, n, config)
        other = adamw(theta, {k: both[1] for k, both in g.items()}, m, v, n, config)
        return right._replace(exp_avg_sq=other.exp_avg_sq)

    return replace(parts, direction=direction, adamw=moved)


def _rated(parts: Parts, rate: Callable[[int, TrainingConfig], float]) -> Parts:
    """Another learning rate, in the report and in the update."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Any:
        # A plan that is constant from its first update on, at the wrong rate.
        eta = max(rate(n, config), float(np.finfo(np.float64).tiny))
        fixed = replace(config, learning_rate=eta, schedule="constant", warmup_updates=0)
        return adamw(theta, g, m, v, n, fixed)

    return replace(parts, rate=rate, adamw=moved)


_WARM, _AFTER = "the_rate_rises_in_the_warm_up", "the_rate_falls_or_stays"
_OVER = "a_plan_that_has_ended_is_an_error"


@wrong("MLM-OPT-8", _WARM, "https://github.com/google-research/bert/issues/1293")
def rates_count_from_0(parts: Parts) -> Parts:
    """The first update has a learning rate of 0, and each the rate of the one before."""
    return _rated(parts, lambda n, c: 0.0 if n == 1 else learning_rate(n - 1, c))


@wrong("MLM-OPT-8", _WARM)
def no_warm_up(parts: Parts) -> Parts:
    """The first updates have the full rate."""
    return _rated(parts, lambda n, c: learning_rate(max(n, c.warmup_updates), c))


@wrong("MLM-OPT-9", _AFTER)
def the_last_rate_is_0(parts: Parts) -> Parts:
    """The line ends at the last update, which is lost."""

    def rate(n: int, c: TrainingConfig) -> float:
        if n <= c.warmup_updates or c.schedule == "constant":
            return learning_rate(n, c)
        learning_rate(n, c)
        return c.learning_rate * (c.total_updates - n) / (c.total_updates - c.warmup_updates)

    return _rated(parts, rate)


@wrong("MLM-OPT-9", _AFTER)
def a_line_from_the_first_update(parts: Parts) -> Parts:
    """The line begins where the warm-up does, and not where it ends."""

    def rate(n: int, c: TrainingConfig) -> float:
        if n <= c.warmup_updates or c.schedule == "constant":
            return learning_rate(n, c)
        learning_rate(n, c)
        return c.learning_rate * (c.total_updates + 1 - n) / c.total_updates

    return _rated(parts, rate)


@wrong("MLM-OPT-9", _AFTER)
def a_constant_that_falls(parts: Parts) -> Parts:
    """Every schedule is linear."""
    return _rated(parts, lambda n, c: learning_rate(n, replace(c, schedule="linear")))


@wrong("MLM-OPT-10", _OVER)
def a_plan_goes_on_at_a_rate_of_0(parts: Parts) -> Parts:
    """Beyond the last update the rate is 0: data is read, and nothing is learnt."""

    def rate(n: int, c: TrainingConfig) -> float:
        is_over = c.schedule == "linear" and n > c.total_updates
        return 0.0 if is_over else learning_rate(n, c)

    return _rated(parts, rate)


@wrong("MLM-OPT-10", _OVER)
def a_plan_goes_on_at_its_last_rate(parts: Parts) -> Parts:
    """Beyond the last update the rate is that of the last."""
    return _rated(parts, lambda n, c: learning_rate(min(n, c.total_updates), c))


@wrong("MLM-OPT-10", _OVER, raises="StopIteration")
def a_plan_ends_with_an_error_of_its_own(parts: Parts) -> Parts:
    """Beyond the last update the generator of rates is exhausted."""

    def rate(n: int, c: TrainingConfig) -> float:
        if n > c.total_updates:
            raise StopIteration("no more learning rates")
        return learning_rate(n, c)

    return replace(parts, rate=rate)


@wrong("MLM-OPT-10", _OVER)
def the_end_of_a_plan_is_seen_too_late(parts: Parts) -> Parts:
    """An update beyond the last one is refused when its moments have moved already."""

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Any:
        if n > config.total_updates:
            for name, moment in m.items():
                moment[...] = config.beta1 * moment + (1 - config.beta1) * g[name]
        return adamw(theta, g, m, v, n, config)

    return replace(parts, rate=lambda n, c: learning_rate(min(n, c.total_updates), c), adamw=moved)


_NOTHING = "an_update_of_nothing_changes_nothing"


def _idle(parts: Parts, change: Callable[[TrainingState, TrainingConfig], TrainingState]) -> Parts:
    """An update of nothing does something."""

    def nothing(state: TrainingState, training: TrainingConfig) -> Any:
        unchanged, report = parts.nothing(state, training)
        return change(unchanged, training), report

    return replace(parts, nothing=nothing)


@wrong("MLM-TRN-4", _NOTHING)
def nothing_counts_as_an_update(parts: Parts) -> Parts:
    """An update of nothing has a number."""
    return _idle(parts, lambda state, training: replace(state, update=state.update + 1))


@wrong("MLM-TRN-4", _NOTHING)
def nothing_decays_the_moments(parts: Parts) -> Parts:
    """An update of nothing averages gradients of 0 into the moments."""

    def change(state: TrainingState, training: TrainingConfig) -> TrainingState:
        return replace(state, exp_avg={n: training.beta1 * m for n, m in state.exp_avg.items()})

    return _idle(parts, change)


@wrong("MLM-TRN-4", _NOTHING)
def nothing_moves_parameters(parts: Parts) -> Parts:
    """An update of nothing goes on by its momentum, and decays."""

    def change(state: TrainingState, training: TrainingConfig) -> TrainingState:
        zero = {n: 0.0 * p for n, p in state.parameters.items()}
        about = (state.exp_avg, state.exp_avg_sq, state.update + 1, training)
        return replace(state, parameters=adamw(state.parameters, zero, *about).parameters)

    return _idle(parts, change)


@wrong("MLM-TRN-4", _NOTHING, "https://github.com/NVIDIA-NeMo/Speech/pull/5424")
def nothing_divides_by_zero(parts: Parts) -> Parts:
    """The loss of nothing is NaN."""

    def nothing(state: TrainingState, training: TrainingConfig) -> Any:
        return state, {**parts.nothing(state, training)[1], "loss": np.nan}

    return replace(parts, nothing=nothing)


@wrong("MLM-TRN-4", "a_micro_batch_of_nothing_is_no_update_of_nothing")
def a_micro_batch_of_nothing_empties_its_update(parts: Parts) -> Parts:
    """Where one micro-batch has nothing selected, the update is taken for one of nothing."""
    counts: list[int] = []

    def rate(n: int, config: TrainingConfig) -> float:
        counts.clear()
        return parts.rate(n, config)

    def gradients(*given: Any, **named: Any) -> Any:
        found = parts.gradients(*given, **named)
        counts.append(int(found.count))
        return found

    def is_held(*given: Any) -> bool:
        return all(counts) and parts.is_held(*given)

    return replace(parts, rate=rate, gradients=gradients, is_held=is_held)


_NUMBER = "one_number_counts_the_updates"


def _attempting(parts: Parts) -> tuple[Parts, list[int]]:
    """The parts with a counter of a session's attempts, those of nothing among them."""
    attempts = [0]

    def start(*given: Any) -> TrainingState:
        attempts[0] = 0
        return parts.start(*given)

    def rate(n: int, config: TrainingConfig) -> float:
        attempts[0] += 1
        return parts.rate(n, config)

    return replace(parts, start=start, rate=rate), attempts


@wrong("MLM-TRN-6", _NUMBER)
def an_update_of_nothing_advances_the_schedule(parts: Parts) -> Parts:
    """The learning rate follows a counter of its own, that of the attempts."""
    counting, attempts = _attempting(parts)

    def rate(n: int, config: TrainingConfig) -> float:
        counting.rate(n, config)
        return learning_rate(attempts[0], config)

    return replace(counting, rate=rate)


@wrong("MLM-TRN-6", _NUMBER)
def the_correction_counts_attempts(parts: Parts) -> Parts:
    """The bias correction follows a counter of its own, that of the attempts."""
    counting, attempts = _attempting(parts)

    def moved(theta: Any, g: Any, m: Any, v: Any, n: int, config: TrainingConfig) -> Moved:
        factor = learning_rate(n, config) / learning_rate(attempts[0], config)
        fixed = replace(config, learning_rate=config.learning_rate * factor)
        return adamw(theta, g, m, v, attempts[0], fixed)

    return replace(counting, adamw=moved)


@wrong("MLM-TRN-6", _NUMBER)
def dropout_counts_attempts(parts: Parts) -> Parts:
    """Dropout follows a counter of its own, that of the attempts."""
    counting, attempts = _attempting(parts)
    return replace(counting, dropout=lambda seed, update: parts.dropout(seed, attempts[0]))


_TAKEN = "an_update_takes_its_sequences_along"


@wrong("MLM-TRN-11", _TAKEN)
def an_update_of_nothing_takes_no_sequences(parts: Parts) -> Parts:
    """An update of nothing meets the same batch for ever."""
    before = [0]

    def nothing(state: TrainingState, training: TrainingConfig) -> Any:
        return parts.nothing(replace(state, position=before[0]), training)

    def grown(state: TrainingState, training: TrainingConfig) -> float:
        before[0] = state.position
        return parts.grown(state, training)

    return replace(parts, nothing=nothing, grown=grown)


@wrong("MLM-TRN-11", _TAKEN)
def a_position_of_whole_updates(parts: Parts) -> Parts:
    """The position is the number of updates made."""

    def save(session: Any, path: str, checkpoint: Any) -> None:
        told = replace(checkpoint.state, position=checkpoint.state.update)
        parts.save(session, path, replace(checkpoint, state=told))

    return replace(parts, save=save)
