"""Puts the repository on the path, so that `bench` is found when pytest is started from anywhere."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
