"""Implementations that people use today, checked through thin adapters.

    registry.py        which ones, where their adapters are, what is known of them upstream
    run.py             `run_field`: the suite on each, in processes of their own
    results.py         what it found, and the exit status
    report.py          the Markdown report, and the table on the terminal
    packages.py        what is installed
    dialects.py        maskers in wide use, described for `mlm-spec identify`
    accuracy/          the accuracy league: how close implementations come to the real number

    torch_losses.py    PyTorch's cross-entropies
    hf_losses.py       the losses of Hugging Face's masked-language models
    torch_port.py      what these two share: arrays in, gradients by autograd
    optax_losses.py    optax's cross-entropy, and the lines that people write around it
    hf_collators.py    Hugging Face's data collators
    keras_hub_masks.py keras-hub's mask generator
    sampling.py        what these two share: which policies can be asked for, and seeds

An adapter translates arguments and results, and nothing else: what the suite finds is what the
package does.  Only the adapters import a framework; nothing imports them but the process that
answers for them, so this package itself needs none.
"""

from __future__ import annotations

__all__: list[str] = []
