"""``python -m mlm_conformance`` is ``mlm-spec``."""

from __future__ import annotations

import sys

from mlm_conformance.cli import main

if __name__ == "__main__":
    sys.exit(main())
