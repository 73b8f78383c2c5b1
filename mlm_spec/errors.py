"""The exceptions of mlm-spec.

    MlmSpecError                      got, expected, where
     ├─ InputError (ValueError)       bad input; nothing was changed
     │   ├─ ShapeError                wrong rank or shape
     │   ├─ DTypeError                wrong element type
     │   ├─ IdRangeError              a token or target id outside the vocabulary
     │   ├─ NotFiniteError            NaN, or +inf, where a number is needed
     │   ├─ NoSupportError            every logit of a selected position is -inf
     │   ├─ ImpossibleTargetError     the target's logit is -inf at a selected position
     │   ├─ PolicyError               a masking policy that is not one
     │   ├─ ConfigError               a configuration of training that is not one
     │   ├─ SeedError                 a seed or an epoch outside 0 .. 2**64 - 1
     │   └─ WordError                 a policy that needs words, and no word ids
     ├─ CapacityError                 more selected positions than a compiled step holds
     ├─ EmptySelectionError           a mean over no selected position
     ├─ CheckpointError               a checkpoint that cannot be read, or written
     ├─ UndecidedError                an enclosure that the last precision does not round
     └─ DeviceError                   the device asked for is not there

Backends raise these same classes (MLM-ERR-1 .. MLM-ERR-13).  Every message says what was
got, what was expected, and where; the three parts are also fields.
"""

from __future__ import annotations

__all__ = [
    "CapacityError",
    "CheckpointError",
    "ConfigError",
    "DTypeError",
    "DeviceError",
    "EmptySelectionError",
    "IdRangeError",
    "ImpossibleTargetError",
    "InputError",
    "MlmSpecError",
    "NoSupportError",
    "NotFiniteError",
    "PolicyError",
    "SeedError",
    "ShapeError",
    "UndecidedError",
    "WordError",
]


class MlmSpecError(Exception):
    """Base of all errors here.

    Parameters
    ----------
    where : the argument, with its index if it has one: ``targets[3, 7]``.
    got : what was found there.
    expected : what has to be there.

    >>> str(IdRangeError("targets[3, 7]", 30522, "an id in 0..30521 (vocab_size is 30522)"))
    'targets[3, 7] is 30522; expected an id in 0..30521 (vocab_size is 30522)'
    """

    def __init__(self, where: str, got: object, expected: str) -> None:
        self.where = where
        self.got = str(got)
        self.expected = expected
        super().__init__(f"{where} is {self.got}; expected {expected}")


class InputError(MlmSpecError, ValueError):
    """Bad input.  The call had no effect."""


class ShapeError(InputError):
    """An array of the wrong rank or shape."""


class DTypeError(InputError):
    """An array, or a number, of the wrong type."""


class IdRangeError(InputError):
    """A token id, or the target of a selected position, outside 0 .. vocab_size - 1."""


class NotFiniteError(InputError):
    """NaN or +inf among the numbers that matter.  -inf is a legal logit."""


class NoSupportError(InputError):
    """All logits of a selected position are -inf: there is no distribution."""


class ImpossibleTargetError(InputError):
    """The target of a selected position has logit -inf: its log-likelihood is -inf."""


class PolicyError(InputError):
    """A masking policy with a field that has no meaning."""


class ConfigError(InputError):
    """A configuration of an encoder or of its training with a field that has no meaning."""


class SeedError(InputError):
    """A seed or an epoch that is not an integer in 0 .. 2**64 - 1."""


class WordError(InputError):
    """Words are needed, and ``word_id`` is None."""


class CapacityError(MlmSpecError):
    """More selected positions than the capacity of a compiled step.  The step had no effect."""


class CheckpointError(MlmSpecError):
    """A checkpoint that cannot be read, or written.  The state and older files are intact."""


class EmptySelectionError(MlmSpecError):
    """A mean was asked for, and no position is selected."""


class UndecidedError(MlmSpecError):
    """A real number lies so near the middle between two floats that no precision tells which.

    Parameters
    ----------
    enclosure : the narrowest that was found, a `mlm_spec.Enclosure`; also a field.
    """

    def __init__(self, enclosure: object) -> None:
        self.enclosure = enclosure
        super().__init__("float(enclosure)", "undecided", f"ends that round alike: {enclosure}")


class DeviceError(MlmSpecError):
    """The device that was asked for is not there.  There is no fallback."""
