"""What of a row of cases is in every run, and what is left to the slow tests."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Return a case of a parametrized test that is only run with the slow tests: it adds little to those beside it."""
    return pytest.param(*values, marks=pytest.mark.slow)
