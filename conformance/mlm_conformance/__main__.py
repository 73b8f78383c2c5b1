"""``python -m mlm_conformance`` is ``mlm-spec``."""

from __future__ import annotations

import sys

from mlm_conformance.outcomes import EXIT_INTERRUPTED

__all__ = ["main"]


def main() -> int:
    """The command line of the shell; returns the exit status."""
    try:
        from mlm_conformance.cli import main as command
    except KeyboardInterrupt:  # NumPy takes a moment to load
        print("mlm-spec: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return command()


if __name__ == "__main__":
    sys.exit(main())
