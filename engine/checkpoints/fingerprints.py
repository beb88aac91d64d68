"""Detects changed handler code: a digest of the user's functions and classes of a node.

Decides what counts: bytecode, constants, names and defaults, of functions inside too, of those that a function holds or
calls by name in its own package, and of a class's methods and its bases there. What differs between two processes with
the same code does not count: addresses, paths, line numbers, the order of sets, what objects and closures hold as data.
Python's library and this package are not the user's code. Digests of two versions of Python cannot be compared.

An object is examined by its type and its contents alone, so no user code is called.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, get_origin

from ...graphs.builder.spec import Node
from ...nodes.handlers import PerWorker

_PACKAGE = __name__.partition(".")[0]
#: The most functions and classes that count for one node; only objects of large libraries have more.
_MAX_OBJECTS = 1000
#: Types whose values are part of the digest; of any other object only the type is.
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})
_GENERATORS = {
    types.GeneratorType: "gi_code",
    types.CoroutineType: "cr_code",
    types.AsyncGeneratorType: "ag_code",
}
#: The attributes in which wrappers of functions hold code.
_WRAPPERS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    type(functools.lru_cache(len)): ("__wrapped__",),
    functools.partial: ("func", "args", "keywords"),
    PerWorker: ("cls", "args", "kwargs"),
}


def fingerprints(nodes: Iterable[Node]) -> dict[str, str]:
    """Return a digest for each node that has code of the user's, by the node's name."""
    found = {node.name: fingerprint(node.subject, node.key) for node in nodes}
    return {name: digest for name, digest in found.items() if digest is not None}


def python_form() -> str:
    """Return what must be the same for two digests to be compared."""
    return f"{sys.implementation.cache_tag}, optimization {sys.flags.optimize}"


def fingerprint(*subjects: object) -> str | None:
    """Return a digest of the code of a node's parts, `None` if there is none."""
    walk = _CodeWalk()
    for subject in subjects:
        walk.note("subject", subject)
    walk.go()
    if not walk.found:
        return None
    return hashlib.blake2b("\n".join(walk.lines).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class _CodeWalk:
    """Collects what the code of objects consists of, each function and class once; `found` says that there was any."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.found = False
        self._known: dict[int, tuple[int, object]] = {}  # the objects too, so that no address is used again
        self._open: deque[Any] = deque()

    def note(self, role: str, value: Any) -> None:
        """Add a part of an object, if it has code."""
        if type(value) is types.GenericAlias or type(value).__module__ == "typing":
            value = get_origin(value) or value
        if not _has_code(value):
            return
        if id(value) not in self._known:
            if len(self._known) >= _MAX_OBJECTS:
                return
            self._known[id(value)] = len(self._known), value
            self._open.append(value)
        self.lines.append(f"{role} is {self._known[id(value)][0]}")

    def go(self) -> None:
        """Collect what was added, and all that it refers to."""
        while self._open:
            value = self._open.popleft()
            self.lines.append(f"this is {self._known[id(value)][0]}")
            kind = type(value)
            if kind is types.FunctionType:
                self._function(value)
            elif issubclass(kind, type):
                self._class(value)
            elif kind in _GENERATORS:
                self._code(getattr(value, _GENERATORS[kind]))
            elif kind in _WRAPPERS:
                self._wrapper(value)
            else:
                self.note("type", kind)
                for name, part in _attributes(value):
                    self.note(name, part)

    def _function(self, function: types.FunctionType) -> None:
        self._code(function.__code__)
        named = sorted((function.__kwdefaults__ or {}).items())
        for name, value in [*enumerate(function.__defaults__ or ()), *named]:
            self.lines.append(f"default {name} {_constant_text(value)}")
            self.note("default", value)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self.note(f"cell {name}", cell.cell_contents)
            except ValueError:
                continue  # not bound yet
        for name in dict.fromkeys(_names(function.__code__)):
            called = function.__globals__.get(name)
            if _top_package(called) == _top_package(function):
                self.note(f"global {name}", called)

    def _class(self, cls: type) -> None:
        self.found = True
        for name, part in sorted(vars(cls).items()):
            self.note(name, part)
        for base in cls.__bases__:
            if _top_package(base) == _top_package(cls):
                self.note("base", base)

    def _wrapper(self, wrapper: Any) -> None:
        for name in _WRAPPERS[type(wrapper)]:
            part = getattr(wrapper, name)
            if type(part) is tuple:  # the arguments of a partial
                part = dict(enumerate(part))
            for key, value in part.items() if type(part) is dict else [("", part)]:
                self.note(f"{name} {key}", value)

    def _code(self, code: types.CodeType) -> None:
        self.found = True
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        self.lines.append(f"code {counts} {names} {code.co_code.hex()} {code.co_exceptiontable.hex()}")
        for constant in code.co_consts:
            if type(constant) is types.CodeType:
                self._code(constant)
            else:
                self.lines.append(f"constant {_constant_text(constant)}")


def _has_code(value: object) -> bool:
    """Whether an object may have code of the user's; lists and other data are not looked into."""
    kind = type(value)
    if kind is types.FunctionType or issubclass(kind, type):
        return not _is_library(value)
    if kind in _WRAPPERS or kind in _GENERATORS:
        return True
    # What a node of ours keeps of the user's functions is behind an object of ours.
    return _top_package(value) == _PACKAGE or (callable(value) and not _is_library(value))


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    """Yield the attributes of an object, sorted by name."""
    found: dict[str, object] = {}
    for cls in type(value).__mro__:
        for name, part in vars(cls).items():
            if type(part) is types.GetSetDescriptorType and name == "__dict__":
                found = {**part.__get__(value), **found}
            elif type(part) is types.MemberDescriptorType:
                try:
                    found.setdefault(name, part.__get__(value))
                except AttributeError:
                    continue  # a slot that holds nothing
    yield from sorted(found.items())


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _names(constant)


def _constant_text(value: object) -> str:
    """Return a text of a constant that is the same in every process."""
    if type(value) in _PLAIN:
        return f"{type(value).__name__} {value!r}"
    if type(value) is tuple:
        return f"({', '.join(map(_constant_text, value))})"
    if type(value) is frozenset:
        return f"{{{', '.join(sorted(map(_constant_text, value)))}}}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _top_package(value: object) -> str:
    """Return the package of a function, a class, or an object's class."""
    kind = type(value)
    home: Any = value if kind is types.FunctionType or issubclass(kind, type) else kind
    return str(home.__module__ or "").partition(".")[0]


def _is_library(value: object) -> bool:
    top = _top_package(value)
    return top == _PACKAGE or top in sys.stdlib_module_names
