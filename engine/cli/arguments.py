"""`--set key=value`: converts texts of the command line to arguments of a function that makes a graph.

Decides which annotations can be written as text and how. It does not know where the function comes from.
"""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

from ...nodes.errors import with_article

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_LISTS: dict[Any, Callable[[list[Any]], Any]] = {list: list, tuple: tuple, Sequence: list, Iterable: list}
#: Types that are read from a text by a function of their own, and how such a text looks.
_READ_BY: dict[Any, Callable[[str], Any]] = {
    date: date.fromisoformat, datetime: datetime.fromisoformat, time: time.fromisoformat, Decimal: Decimal, UUID: UUID,
}  # fmt: skip
_LIKE = {date: ", such as 2024-02-29", datetime: ", such as 2024-02-29T12:30", time: ", such as 12:30"}
#: Annotations that accept any text.
_TEXT = (str, object, Any, os.PathLike)


class UsageError(Exception):
    """A command line that cannot be carried out; `__cause__` is the user's own error, where there was one."""


def arguments_of(function: Callable[..., Any], pairs: Sequence[str], called: str) -> dict[str, Any]:
    """Return the keyword arguments that `pairs` ("key=value") mean for `function`, which error texts name `called`.

    Texts become str, int, float, bool (true, false, yes, no, on, off), `Path`, dates and times as ISO 8601, `Decimal`, `UUID`,
    a `Literal`'s value, an `Enum`'s member by its name, or for `X | None` also `None`
    ("none"); a list or tuple gets one value for each time its key is given. Raises `UsageError` for keys that are
    missing, unknown or given twice, and for texts that do not fit; it names the parameters with their types.
    """
    parameters = _parameters(function, called)
    texts: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair} is no key=value; {_choice(parameters, called)}")
        if key not in parameters:
            raise UsageError(f"--set {pair}: {called} has no parameter {key!r}; {_choice(parameters, called)}")
        texts.setdefault(key, []).append(text)
    missing = [name for name, one in parameters.items() if one.default is one.empty and name not in texts]
    if missing:
        raise UsageError(f"{called} needs --set {missing[0]}=...; {_choice(parameters, called)}")
    values = {}
    for key, given in texts.items():
        hint = parameters[key].annotation
        try:
            values[key] = _convert(hint, given)
        except ValueError as error:
            raise UsageError(f"--set {key}={given[-1]}: {error}; {_choice(parameters, called)}") from None
    return values


def _parameters(function: Callable[..., Any], called: str) -> dict[str, inspect.Parameter]:
    """Return the parameters that can be set, with types instead of annotations."""
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(
            f"cannot tell the parameters of {called}: {error}; let its annotations be names that its module has"
        ) from error
    found = {}
    for name, one in signature.parameters.items():
        if one.kind is one.POSITIONAL_ONLY:
            raise UsageError(f"cannot call {called}: its parameter {name!r} has no name for callers; take out the '/'")
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        plain = type(one.default) if isinstance(one.default, bool | int | float | Path) else str
        found[name] = one.replace(annotation=hints.get(name, plain))
    return found


def _convert(hint: Any, texts: list[str]) -> Any:
    """Return `texts` as a value of type `hint`; raises `ValueError` when they do not fit."""
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), texts)
    if origin in _LISTS:
        inner = [arg for arg in get_args(hint) if arg is not Ellipsis]
        if len(inner) > 1:
            raise ValueError(f"{with_article(type_text(hint))} cannot be written on the command line")
        return _LISTS[origin]([_convert(inner[0] if inner else str, [text]) for text in texts])
    if len(texts) > 1:
        raise ValueError("it is given more than once")
    return _convert_one(hint, origin, texts[0])


def _convert_union(hints: Sequence[Any], texts: list[str]) -> Any:
    if type(None) in hints and [text.lower() for text in texts] == ["none"]:
        return None
    # A text fits every str and a single one every list, so these are tried last.
    plain = sorted((hint for hint in hints if hint is not type(None)), key=lambda hint: (_is_list(hint), hint in _TEXT))
    for hint in plain:
        try:
            return _convert(hint, texts)
        except ValueError as error:
            if len(plain) == 1:
                raise
            refused = error
    raise ValueError(f"it fits none of {' and '.join(map(type_text, plain))}") from refused


def _is_list(hint: Any) -> bool:
    return (get_origin(hint) or hint) in _LISTS


def _convert_one(hint: Any, origin: Any, text: str) -> Any:
    if origin is Literal:
        choices = {str(value): value for value in get_args(hint)}
        if text not in choices:
            raise ValueError(f"it is one of {', '.join(choices)}")
        return choices[text]
    if hint is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError("it is true or false")
        return text.lower() in _TRUE
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise ValueError(f"this is no {hint.__name__}") from None
    if hint is Path:
        return Path(text)
    if isinstance(hint, type) and issubclass(hint, Enum):
        if text not in hint.__members__:
            raise ValueError(f"it is one of {', '.join(hint.__members__)}")
        return hint[text]
    if hint in _READ_BY:
        try:
            return _READ_BY[hint](text)
        except (ValueError, ArithmeticError):
            raise ValueError(f"this is no {hint.__name__}{_LIKE.get(hint, '')}") from None
    if origin in _TEXT:
        return text
    raise ValueError(f"{with_article(type_text(hint))} cannot be written on the command line")


def type_text(hint: Any) -> str:
    """Return a type as a person writes it."""
    return inspect.formatannotation(hint).replace("pathlib._local.", "").replace("pathlib.", "").replace("collections.abc.", "")


def describe_parameters(function: Callable[..., Any], called: str) -> list[str]:
    """Return a line for each value that `function` takes; raises `UsageError` where they cannot be told."""
    parameters = _parameters(function, called)
    return [f"  {_shown(name, one)}" for name, one in parameters.items()] or ["  none"]


def _choice(parameters: dict[str, inspect.Parameter], called: str) -> str:
    if not parameters:
        return f"{called} takes no values, leave --set out"
    return f"the parameters of {called} are {', '.join(_shown(name, one) for name, one in parameters.items())}"


def _shown(name: str, one: inspect.Parameter) -> str:
    return f"{name}: {type_text(one.annotation)}" + ("" if one.default is one.empty else f" = {one.default!r}")
