"""`--set key=value`: what texts become, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Union

import pytest
from sluiceway.engine.cli.arguments import UsageError, arguments_of


def taking(hint: Any) -> Callable[..., Any]:
    """Return a function with one parameter of a type."""

    def function(*, value: Any) -> None:
        """Stand for a user's function."""

    function.__annotations__["value"] = hint
    return function


@pytest.mark.parametrize(
    ("hint", "texts", "value"),
    [
        (str, ["a=b"], "a=b"),
        (str, [""], ""),
        (str, ["none"], "none"),
        (int, ["-12"], -12),
        (int, ["1_000"], 1000),
        (float, ["1e3"], 1000.0),
        (bool, ["Yes"], True),
        (bool, ["0"], False),
        (Path, ["x/y"], Path("x/y")),
        (os.PathLike[str], ["x/y"], "x/y"),
        (Literal["fast", 3], ["3"], 3),
        (Literal["fast", 3], ["fast"], "fast"),
        (int | None, ["none"], None),
        (Union[int, None], ["7"], 7),  # noqa: UP007 - as people still write it
        (str | None, ["None"], None),
        (str | int, ["7"], 7),
        (str | int, ["x"], "x"),
        (list[str], ["a"], ["a"]),
        (list[int], ["1", "2"], [1, 2]),
        (list, ["a", "b"], ["a", "b"]),
        (tuple[float, ...], ["1", "2"], (1.0, 2.0)),
        (Sequence[Path], ["a", "b"], [Path("a"), Path("b")]),
        (Iterable[bool] | None, ["no"], [False]),
        (str | list[str], ["a"], "a"),
        (str | list[str], ["a", "b"], ["a", "b"]),
    ],
)
def test_texts_become_values(hint: Any, texts: list[str], value: Any) -> None:
    given = arguments_of(taking(hint), [f"value={text}" for text in texts], "f()")["value"]
    assert given == value
    assert type(given) is type(value)


@pytest.mark.parametrize(
    ("hint", "texts", "told"),
    [
        (int, ["1.5"], "this is no int"),
        (int, [""], "this is no int"),
        (float, ["x"], "this is no float"),
        (bool, ["maybe"], "true or false"),
        (Literal["fast", "small"], ["big"], "one of fast, small"),
        (int | None, ["x"], "this is no int"),
        (int | float, ["x"], "none of int and float"),
        (str, ["a", "b"], "more than once"),
        (list[int], ["1", "x"], "this is no int"),
        (dict[str, int], ["x"], "a dict[str, int] cannot be written on the command line"),
        (tuple[int, str], ["1"], "cannot be written on the command line"),
        (bytes, ["x"], "a bytes cannot be written"),
    ],
)
def test_texts_that_do_not_fit_are_refused(hint: Any, texts: list[str], told: str) -> None:
    with pytest.raises(UsageError, match="the parameters of f\\(\\) are value: ") as caught:
        arguments_of(taking(hint), [f"value={text}" for text in texts], "f()")
    assert told in str(caught.value)


def settable(path: Path, count: int = 3, *more: str, scale=1.5, deep=False, name="x", **rest: str) -> None:  # type: ignore[no-untyped-def]
    """Stand for a user's function, not annotated throughout."""


def test_types_of_defaults_stand_in_for_annotations() -> None:
    given = arguments_of(settable, ["path=a", "scale=2", "deep=yes", "name=7"], "f()")
    assert given == {"path": Path("a"), "scale": 2.0, "deep": True, "name": "7"}


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([], "f() needs --set path=..."),
        (["path"], "--set path is no key=value"),
        (["=x"], "--set =x is no key=value"),
        (["path=a", "more=b"], "--set more=b: f() has no parameter 'more'"),
        (["path=a", "rest=b"], "--set rest=b: f() has no parameter 'rest'"),
    ],
)
def test_keys_that_do_not_fit_are_refused_with_the_parameters(pairs: list[str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        arguments_of(settable, pairs, "f()")
    assert str(caught.value) == (
        f"{told}; the parameters of f() are path: Path, count: int = 3, scale: float = 1.5, deep: bool = False,"
        " name: str = 'x'"
    )


def test_a_function_without_parameters_takes_no_values() -> None:
    with pytest.raises(UsageError, match="f\\(\\) takes no values, leave --set out"):
        arguments_of(lambda: None, ["a=1"], "f()")


def test_parameters_that_cannot_be_told_or_named_are_refused() -> None:
    def positional(value: int, /) -> None:
        """Stand for a user's function."""

    with pytest.raises(UsageError, match="its parameter 'value' has no name for callers; take out the '/'"):
        arguments_of(positional, [], "f()")
    with pytest.raises(UsageError, match=r"cannot tell the parameters of f\(\): name 'Nowhere' is not defined"):
        arguments_of(taking("Nowhere"), ["value=1"], "f()")
