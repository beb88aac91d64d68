"""Pickle protocol 5 for batches: how events are written and read, with classes of `__main__` and local classes.

The body is a sequence of pickled lists, ended by a pickled `None` so that truncation is noticed. Objects inside one list may
share; a batch whose events share something goes as one list per event, so that changing one never changes another.
Buffers of `OUT_OF_BAND_BYTES` or more travel beside the body, uncopied.

`pickle.Unpickler` keeps its memo from one `load` to the next although `Pickler.clear_memo` cleared the other end, and
then returns wrong objects silently: every list is read by an unpickler of its own.

What a process does with names of `__main__` is set once and kept here, not in an object that callers pass on: `__main__`
belongs to the whole process, as do the module table and the classes that cloudpickle has made, and unpickling is also
begun by user code in `__setstate__` and by libraries, to which nothing can be passed.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType
from typing import Any

from cloudpickle import cloudpickle as _by_value

from . import main_module
from .errors import CodecError
from .picklers import SENT, ByValuePickler, DefiningPickler, own_reducers

#: A buffer of at least this size gets a frame of its own.
OUT_OF_BAND_BYTES = 16 * 1024

_END = b"N."  # a pickled None
_MAKERS = frozenset({"_make_skeleton_class", "_make_skeleton_enum"})


class _Process:
    """How this process treats names of `__main__`; the caller's process keeps the defaults."""

    resolver: main_module.Resolver | None = None
    adopts = False
    #: The modules that are being imported for what is unpacked, the innermost last.
    imports: list[str] = []  # noqa: RUF012


def set_definition_resolver(resolver: main_module.Resolver | None) -> None:
    """Set the function that finds objects of `__main__` which this process does not have.

    `resolver` gets the dotted name inside `__main__` and returns the object; it may install it there, and is then not
    called for it again. With `None` a missing name is an error.
    """
    _Process.resolver = resolver


def adopt_main_classes(enabled: bool) -> None:
    """Set whether what came with a handler and is the script's belongs to this process's `__main__`.

    Meant for workers, whose `__main__` is not the user's: its functions share the names there, and its classes are sent by
    their name, so that the caller gets its own. Only top level names that are free are taken.
    """
    _Process.adopts = enabled


def importing() -> str | None:
    """Return the module that this child process is importing for something it unpacks, if it is."""
    return _Process.imports[-1] if _Process.imports else None


def find_of_script(name: str) -> Any:
    """Return what a dotted name is in the `__main__` of this process, or in a script that was run in another way.

    Raises `AttributeError` if there is none.
    """
    first, *rest = name.split(".")
    main = sys.modules[main_module.MAIN]
    value = getattr(main, first) if hasattr(main, first) else SENT.find(first)
    for part in rest:
        value = getattr(value, part)
    return value


def dump(events: list[Any], *, separate: bool, by_value: bool) -> tuple[bytes, list[memoryview]]:
    """Pickle `events`; return the body and the buffers that belong beside it.

    `separate` says that no two events share an object that can be changed; `by_value` also takes local classes,
    lambdas and functions. Raises whatever pickle or the classes of the events raise.
    """
    file = io.BytesIO()
    buffers: list[memoryview] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_BYTES:
            return True
        buffers.append(view)
        return False

    make = ByValuePickler if by_value else pickle.Pickler
    pickler = make(file, 5, buffer_callback=in_band)
    if not by_value and (own := own_reducers()):
        pickler.dispatch_table = copyreg.dispatch_table | own
    for group in [events] if separate else ([event] for event in events):
        pickler.dump(group)
        pickler.clear_memo()
    file.write(_END)
    return file.getvalue(), buffers


def dumps(value: Any, look: Callable[[Any], None] | None = None) -> bytes:
    """Pickle one value; what cannot be imported is written with its definition. Raises whatever pickle or the value raises.

    `look` is called with every object in it that is not of a plain builtin type, and may raise.
    """
    file = io.BytesIO()
    DefiningPickler(file, 5, look=look).dump(value)
    return file.getvalue()


def loads(packed: Any) -> Any:
    """Read what `dumps` wrote, with the names of `__main__` that `load` knows. Raises whatever pickle or the value raises."""
    return _Unpickler(io.BytesIO(packed)).load()


def load(body: Any, buffers: Iterable[Any]) -> list[Any]:
    """Read what `dump` wrote; arrays use `buffers` as they are. Raises whatever pickle or the classes raise."""
    file = io.BytesIO(body)
    rest = iter(buffers)
    events: list[Any] = []
    while (group := _Unpickler(file, buffers=rest).load()) is not None:
        events.extend(group)
    if file.read(1) or next(rest, None) is not None:
        raise pickle.UnpicklingError("bytes are left over")
    return events


def load_partial(body: bytes, buffers: Iterable[Any]) -> list[Any]:
    """Read what `PartialPickle.only` wrote; a class that is not known matters only where a wanted event needs it."""
    file = io.BytesIO(body)
    rest = iter(buffers)
    events: list[Any] = []
    while True:
        unpickler = _PartialUnpickler(file, buffers=rest)
        try:
            group = unpickler.load()
        except Exception:
            if unpickler.unknown:
                raise unpickler.unknown[0] from None
            raise
        if group is None:
            return events
        if unpickler.unknown and _holds_unknown(group):
            raise unpickler.unknown[0]
        events.extend(group)


def _holds_unknown(events: list[Any]) -> bool:
    """Whether something in `events` stands for a name that is not known here."""
    found: list[_Unknown] = []

    class Looking(DefiningPickler):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, _Unknown):
                found.append(value)
                return object, ()
            return super().reducer_override(value)

    try:
        Looking(io.BytesIO(), 5).dump(events)
    except Exception:  # one that cannot be looked through is not trusted
        return True
    return bool(found)


class _Unknown:
    """Stands for a name that is not known in this process; nothing can be made with it."""


class _Unpickler(pickle.Unpickler):
    """Finds the user's `__main__` also in processes that have another one, and leaves known classes as they are."""

    _known: frozenset[type] = frozenset()

    def find_class(self, module: str, name: str) -> Any:
        try:
            found = self._find(module, name)
        except (ImportError, AttributeError) as error:
            raise CodecError(f"{module}.{name} is not known in this process; make it importable here") from error
        if module == _by_value.__name__:
            if name in _MAKERS:
                return partial(self._make_class, found)
            if name == "_class_setstate":
                return partial(self._fill_class, found)
            if name == "_make_function" and _Process.adopts:
                return partial(_make_function, found)
            if name == "_function_setstate" and _Process.adopts:
                return partial(_fill_function, found)
        return found

    def _find(self, module: str, name: str) -> Any:
        try:
            if module in sys.modules or not _Process.adopts:
                return super().find_class(module, name)
            _Process.imports.append(module)
            try:
                return super().find_class(module, name)
            finally:
                _Process.imports.pop()
        except AttributeError:
            if module not in main_module.NAMES:
                raise
            if _Process.resolver is None:
                return find_of_script(name)
        return _Process.resolver(name)

    def _make_class(self, make: Callable[..., type], *arguments: Any) -> type:
        is_known = arguments[-2] in _by_value._DYNAMIC_CLASS_TRACKER_BY_ID
        cls = make(*arguments)
        if is_known:
            self._known |= {cls}
        return cls

    def _fill_class(self, fill: Callable[[type, Any], type], cls: type, state: Any) -> type:
        # A class that this process has keeps its own attributes: what another process did to its copy stays there.
        if cls in self._known:
            return cls
        cls = fill(cls, state)
        if _Process.adopts:
            _adopt(state[1])
        return cls


def _adopt(names: dict[str, Any]) -> None:
    """Put names of the script into this process's `__main__`; what is there stays: it may have been changed since."""
    there = vars(sys.modules[main_module.MAIN])
    for name, value in names.items():
        there.setdefault(name, value)


def _make_function(make: Callable[..., Any], code: CodeType, around: dict[str, Any], *rest: Any) -> Any:
    """Make a function; those of the script look their names up in `__main__`, all in the same."""
    return make(code, vars(sys.modules[main_module.MAIN]) if around.get("__name__") in main_module.NAMES else around, *rest)


def _fill_function(fill: Callable[[Any, Any], None], function: Any, state: Any) -> None:
    """Fill a function; names that `__main__` has by now keep their values."""
    main = vars(sys.modules[main_module.MAIN])
    names = state[1]["__globals__"]
    if function.__globals__ is main:
        state[1]["__globals__"] = {name: value for name, value in names.items() if name not in main}
    fill(function, state)


class _PartialUnpickler(_Unpickler):
    """Continues after an unknown class: it may be that of an event that is not wanted."""

    def __init__(self, file: io.BytesIO, *, buffers: Any) -> None:
        super().__init__(file, buffers=buffers)
        self.unknown: list[CodecError] = []

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except CodecError as error:
            self.unknown.append(error)
            return _Unknown()
