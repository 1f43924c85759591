"""Run the command line with ``python -m affectcore``."""

from __future__ import annotations

import sys

from affectcore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
