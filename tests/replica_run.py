"""What each process of `test_torch_replicas` runs: ``replica_run.py FOLDER [sharded]``.

The same updates at 1, 2, … replicas, as many as there are processes, each written down.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import mlm_torch.replicas
import numpy as np
import torch
import torch.distributed as dist
from mlm_torch.port import TorchPort
from mlm_torch.replicas import Replicas, join_replicas
from torch_training_cases import (
    ENCODER,
    POLICY,
    TRAINING,
    batch_of,
    everything,
    parameters_of,
    tokens_of,
)

from mlm_spec.errors import MlmSpecError

__all__ = ["digest_of", "name_of", "own_part", "updates"]

Batches = list[dict[str, Any]]


def updates() -> list[Batches]:
    """The micro-batches of each update; their counts differ."""
    none = batch_of(2)
    none["selected"] = np.zeros_like(none["selected"])
    return [
        [tokens_of(seed) for seed in range(1, 7)],
        [batch_of(7), batch_of(8, rows=1), batch_of(9, columns=11), none],
        [batch_of(10)],  # all but one replica have no micro-batch
        [none, none, none],
        [],
        [tokens_of(11), none, batch_of(12)],
    ]


def name_of(group: Replicas) -> str:
    return f"{group.size}{' sharded' if group.sharded else ''}"


def own_part(batches: Batches, group: Replicas) -> Batches:
    return batches[group.rank :: group.size]


def digest_of(values: dict[str, Any]) -> str:
    """A word for all of them, bit for bit."""
    found = hashlib.sha256()
    for name, value in sorted(values.items()):
        found.update(name.encode() + np.asarray(value).tobytes())
    return found.hexdigest()


def session_of(group: Replicas, seed: int = 0) -> Any:
    """Replicas begin with different parameters, of which the first one's count."""
    given = parameters_of(seed=seed) if seed else parameters_of()
    return TorchPort(replicas=group).session(ENCODER, TRAINING, given, POLICY)


def run(group: Replicas, folder: Path) -> list[dict[str, Any]]:
    session, found = session_of(group, seed=group.rank and 100 + group.rank), []
    for number, batches in enumerate(updates()):
        mine, stem = own_part(batches, group), folder / f"{name_of(group)}-{number}"
        gradients = session.gradients(mine)["gradients"]
        evaluated = session.evaluate(mine)
        if group.rank == 0:
            np.savez(f"{stem}.npz", **gradients)
        report = session.step(mine)
        session.save(f"{stem}.safetensors")
        found.append({
            "gradients": digest_of(gradients), "state": digest_of(everything(session)),
            "report": report, "sum": float(evaluated["sum"]), "count": evaluated["count"],
            "position": session.state()["position"],
        })  # fmt: skip
    found.append({"refused": refusals(session, group, folder), "state": found[-1]["state"]})
    assert digest_of(everything(session)) == found[-1]["state"]
    return found


def refusals(session: Any, group: Replicas, folder: Path) -> list[str]:
    """What is said on each replica where only the last one has a bad batch or file."""
    last, said = group.rank == group.size - 1, []
    bad = batch_of(1)
    bad["inputs"][0, 0] = -7
    for call, argument in (
        (session.step, [bad if last else batch_of(1)]),
        (session.evaluate, [bad if last else batch_of(1)]),
        (session.load, folder / ("absent" if last else f"{name_of(group)}-0.safetensors")),
    ):
        try:
            call(argument)
        except MlmSpecError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def wrong(group: Replicas, folder: Path) -> None:
    """What comes of a mean over replicas where a sum is wanted."""

    def averaged(given, bucket):
        work = dist.all_reduce(bucket.buffer().div_(group.size), group=given, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    right, mlm_torch.replicas._summed = mlm_torch.replicas._summed, averaged
    gradients = session_of(group).gradients(own_part(updates()[0], group))["gradients"]
    mlm_torch.replicas._summed = right
    if group.rank == 0:
        np.savez(folder / f"{group.size}-wrong.npz", **gradients)


def resumed(group: Replicas, folder: Path) -> list[str]:
    """The state after three updates, in one go and from a checkpoint before the last."""
    path = folder / f"{name_of(group)}-resumed.safetensors"
    torch.use_deterministic_algorithms(True)
    one, other = session_of(group), session_of(group)
    parts = [own_part(updates()[number], group) for number in (1, 2, 0)]
    one.step(parts[0])
    one.step(parts[1])
    one.save(path)
    other.load(path)
    # Gradients of all replicas, of which more than two are not 0: their order matters.
    one.step(parts[2])
    other.step(parts[2])
    torch.use_deterministic_algorithms(False)
    return [digest_of(everything(session)) for session in (one, other)]


def write(group: Replicas, folder: Path) -> None:
    text = json.dumps(run(group, folder))
    (folder / f"{name_of(group)}-{group.rank}.json").write_text(text, encoding="utf-8")


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with join_replicas(seconds=60) as (every, _):
        for size in range(1, every.size + 1):
            group = dist.new_group(range(size))
            if every.rank < size:
                write(Replicas(group, every.rank, size), folder)
                wrong(Replicas(group, every.rank, size), folder)
        if "sharded" in sys.argv:
            write(Replicas(every.group, every.rank, every.size, sharded=True), folder)
        text = json.dumps(resumed(every, folder))
        (folder / f"resumed-{every.rank}.json").write_text(text, encoding="utf-8")
        dist.barrier()


if __name__ == "__main__":
    main()
