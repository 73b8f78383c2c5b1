"""What is measured, beside its peers.

    python -m benchmarks.masking   masks a second: the reference and the backends, HF, keras-hub
    python -m benchmarks.head      the output layer and the objective, forward and backward
    python -m benchmarks.check     what `mlm-spec check` costs
    python -m benchmarks.device    the checks and the benchmarks on this machine's GPU

Each prints a table and writes it, and the raw times as JSON, under benchmarks/results.  Times are
compared within one run, in turns; nothing here asserts a time.

    measure.py   rounds in turns, ratios in pairs, the machine, the table
    worker.py    one process for each implementation
    memory.py    the peak memory of a call, and of a process with its children
    maskers.py, heads.py   the implementations that are measured
"""

from __future__ import annotations
