"""The runners that a test must pass in."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["inline", "processes"])
def runner(request: pytest.FixtureRequest) -> Any:
    return request.param
