"""`python -m sluiceway`: the command line. To Python this file is `sluiceway.__main__`."""

from __future__ import annotations

import sys
from importlib import import_module

if __name__ == "__main__":
    sys.exit(import_module(".engine.cli.main", "sluiceway").main())
