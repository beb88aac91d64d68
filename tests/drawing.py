"""Tests over drawn examples: a few in every run, and many more in the one that is marked slow."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings


def drawn(few: int, many: int, *strategies: Any, **named: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator for a test over examples that hypothesis draws, as its `given` does.

    The test runs twice: with `few` examples, and marked slow with `many`. Strategies without a name are for its last
    parameters; what is left are fixtures and parameters of pytest.
    """

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        others = [each for name, each in inspect.signature(check).parameters.items() if name not in named]
        others = others[: len(others) - len(strategies)]
        number = inspect.Parameter("examples", inspect.Parameter.POSITIONAL_OR_KEYWORD)

        @functools.wraps(check)
        def test(examples: int, **words: Any) -> None:
            settings(max_examples=examples, deadline=None)(given(*strategies, **named)(check))(**words)

        test.__signature__ = inspect.Signature([number, *others])  # type: ignore[attr-defined]
        return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])(test)

    return decorate
