"""Replicas that fail one another: one dies, one hangs, one has something else to say."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np


class _Run:
    def __init__(self, kind: str, rank: int) -> None:
        self.kind, self.rank = kind, rank

    def evaluate(self, batches: Any) -> dict[str, Any]:
        """Replica 1 does what it is for; the others wait for it."""
        if self.kind == "agrees":
            return {"sum": np.float64(-1.0), "count": 2}
        print(f"replica {self.rank} was here", flush=True)
        if self.kind == "dies" and self.rank == 1:
            os._exit(7)
        time.sleep(600)
        raise AssertionError("nobody waits so long")


class Target:
    def replica_session(
        self, encoder: Any, training: Any, parameters: Any, policy: Any,
        rank: int, size: int, address: str, sharded: bool,
    ) -> _Run:  # fmt: skip
        if encoder["kind"] == "refuses":
            raise NotImplementedError("nothing of the kind")
        return _Run(encoder["kind"], rank)
