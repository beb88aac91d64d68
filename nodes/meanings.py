"""What the fields of a class mean, written once beside each field, for `help` and the reference page.

Decides where a meaning is kept and how a list of fields reads. It knows none of the classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

C = TypeVar("C", bound=type)


def means(text: str, **more: Any) -> dict[str, Any]:
    """Return the metadata of a field: what it means, and `more`."""
    return {"means": text, **more}


def meaning_of(one: Field[Any]) -> str:
    """Return what a field means; empty if that is not written."""
    return str(one.metadata.get("means", ""))


def default_of(one: Field[Any]) -> str:
    """Return the default of a field as it is written; empty if it has none, or one that is made for each object."""
    return "" if one.default is MISSING else repr(one.default)


def type_of(one: Field[Any]) -> str:
    """Return the type of a field as users write it: its annotation, or `written` in its metadata."""
    return str(one.metadata.get("written", one.type))


def with_fields(cls: C) -> C:
    """Add the list of its fields to the docstring of a dataclass; for use as a decorator."""
    cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\nFields:\n\n{_listed(fields(cls))}"
    return cls


def options_of(*classes: type) -> list[Field[Any]]:
    """Return the fields of dataclasses that hold options; of two with one name the first, of `of_all=False` none."""
    found: dict[str, Field[Any]] = {}
    for one in (one for cls in classes for one in fields(cls) if one.metadata.get("of_all", True)):
        found.setdefault(one.name, one)
    return list(found.values())


def explain_options(function: Any, *classes: type) -> None:
    """Set the signature and the docstring of a function that takes `**options` to those of one with the options of `classes`.

    `help` and notebooks show both; type checkers read the annotation of `**options`.
    """
    shown = inspect.signature(function)
    kept = [one for one in shown.parameters.values() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    named = [one for one in options_of(*classes) if one.name not in shown.parameters]
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(one.name, keyword, default=one.default, annotation=type_of(one)) for one in named]
    function.__signature__ = shown.replace(parameters=[*kept, *options])
    function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions:\n\n{_listed(named)}"


def _listed(told: Iterable[Field[Any]]) -> str:
    return "\n".join(
        f"    {one.name}: {type_of(one)}{f' = {default}' if (default := default_of(one)) else ''}\n        {meaning_of(one)}"
        for one in told
    )
