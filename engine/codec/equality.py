"""Whether two objects are the same: equal in type and value, all the way down, whatever `==` of their classes says.

Decides what counts: numbers differ from other numbers that are equal (1, 1.0, True; Decimal 1 and 1.0), a NaN is the same as a
NaN, sets and the keys of dicts have no order. Objects are compared by what they are pickled from, functions by their code
and what they refer to; in doubt they differ.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

from .pickling import dumps
from .shape import ATOMS

_ITERATORS = slice(3, 5)  # the places of what a `__reduce_ex__` gives as iterators: items of a list, of a dict


def are_same(one: Any, other: Any) -> bool:
    """Whether two objects are the same; runs code of their classes, and whatever that raises says that they are not."""
    try:
        return _Comparison().same(one, other)
    except Exception:  # also a RecursionError
        return False


class _Comparison:
    """One walk over two objects side by side."""

    def __init__(self) -> None:
        #: The pairs that are being compared, kept alive: where one comes again, the way to it decides.
        self._open: dict[tuple[int, int], tuple[Any, Any]] = {}

    def same(self, one: Any, other: Any) -> bool:
        """Whether two objects are the same."""
        if one is other:
            return True
        kind = type(one)
        if kind is not type(other):
            return False
        if kind is float or kind is complex:
            return repr(one) == repr(other)
        if kind in ATOMS or kind is CodeType:
            return bool(one == other)
        pair = id(one), id(other)
        if pair in self._open:
            return True
        self._open[pair] = one, other
        return self._same_inside(kind, one, other)

    def _same_inside(self, kind: type, one: Any, other: Any) -> bool:
        if kind is list or kind is tuple:
            return self._all_same(one, other)
        if kind is dict:
            return len(one) == len(other) and all(self._has(other, key, value) for key, value in one.items())
        if kind is set or kind is frozenset:
            return bool(one == other) and sorted(map(_type_name, one)) == sorted(map(_type_name, other))
        if kind is FunctionType:
            return self.same(_parts_of_function(one), _parts_of_function(other))
        if isinstance(one, type):
            return dumps(one) == dumps(other)
        return self._same_parts(_parts(one), _parts(other))

    def _all_same(self, one: Sequence[Any], other: Sequence[Any]) -> bool:
        return len(one) == len(other) and all(map(self.same, one, other))

    def _has(self, other: dict[Any, Any], key: Any, value: Any) -> bool:
        return key in other and self.same(value, other[key])

    def _same_parts(self, one: Any, other: Any) -> bool:
        if isinstance(one, str) or isinstance(other, str):
            return bool(one == other)
        first, second = list(one), list(other)
        for parts in first, second:
            parts[_ITERATORS] = [None if items is None else list(items) for items in parts[_ITERATORS]]
        return self._all_same(first, second)


def _type_name(value: object) -> str:
    return type(value).__qualname__


def _parts(value: Any) -> Any:
    """Return what a pickle would make an object from: the name of a global, or a function, its arguments and a state."""
    reduce = copyreg.dispatch_table.get(type(value))
    return reduce(value) if reduce is not None else value.__reduce_ex__(4)


def _parts_of_function(function: FunctionType) -> list[Any]:
    """Return the code of a function and what it refers to."""
    names = sorted(set(_global_names(function.__code__)) & function.__globals__.keys())
    cells = [_content(cell) for cell in function.__closure__ or ()]
    given = [function.__defaults__, function.__kwdefaults__, function.__dict__]
    return [function.__code__, *given, cells, {name: function.__globals__[name] for name in names}]


def _global_names(code: CodeType) -> Iterator[str]:
    """Yield the names that code and the functions inside it look up in their module, and some more."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _global_names(inner)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
