"""The options of a handler: declared once, and the words that mypy needs agree with it."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields

import pytest
from sluiceway.nodes.errors import GraphError
from sluiceway.nodes.program.options import HANDLER_OPTION_NAMES, ErrorTypes, HandlerOptions, Options, check_options


def test_the_words_of_a_call_are_the_options() -> None:
    """mypy reads a literal TypedDict; it names the options that all methods take, with their types, and the name."""
    words = typing.get_type_hints(HandlerOptions)
    declared = typing.get_type_hints(Options)
    assert words.pop("name") is str
    assert words.pop("retry_on") == ErrorTypes | None  # what is kept of them are their names
    assert declared.pop("retry_on") == tuple[str, ...] | None
    assert words.pop("devices") == Sequence[str] | None
    assert declared.pop("devices") == tuple[str, ...] | None
    assert words.pop("cpus") == Sequence[int | Sequence[int]] | None
    assert declared.pop("cpus") == tuple[tuple[int, ...], ...] | None
    assert words.pop("resources") == Mapping[str, float] | None
    assert declared.pop("resources") == tuple[tuple[str, float], ...] | None
    assert words == {name: declared[name] for name in words}
    assert set(HANDLER_OPTION_NAMES) == {"name", "retry_on", "devices", "cpus", "resources", *words}
    assert set(declared) - set(words) == {"batch_size"}  # a parameter of map_batches alone


def test_every_option_has_a_check_that_accepts_its_default() -> None:
    for option in fields(Options):
        given = {option.name: option.default}
        assert check_options("map 'f'", given) == Options()
        with pytest.raises(GraphError, match=f"^map 'f': {option.name}="):
            check_options("map 'f'", {option.name: object()})


def test_what_is_not_given_has_its_default() -> None:
    assert check_options("map 'f'", {}) == Options()
