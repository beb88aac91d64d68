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

import cloudpickle
from cloudpickle import cloudpickle as _by_value

from ...nodes.errors import kind_of
from .errors import CodecError

#: A buffer of at least this size gets a frame of its own.
OUT_OF_BAND_BYTES = 16 * 1024

_END = b"N."  # a pickled None
_FILENAME = 10  # the place of `co_filename` among the arguments of `CodeType`, in Python 3.11 to 3.13
_MAKERS = frozenset({"_make_skeleton_class", "_make_skeleton_enum"})

Resolver = Callable[[str], object]


class _Process:
    """How this process treats names of `__main__`; the caller's process keeps the defaults."""

    resolver: Resolver | None = None
    adopts = False
    #: The modules that are being imported for what is unpacked, the innermost last.
    imports: list[str] = []  # noqa: RUF012


def set_definition_resolver(resolver: Resolver | None) -> None:
    """Set the function that finds objects of `__main__` which this process does not have.

    `resolver` gets the dotted name inside `__main__` and returns the object; it may install it there, and is then not
    called for it again. With `None` a missing name is an error.
    """
    _Process.resolver = resolver


def adopt_main_classes(enabled: bool) -> None:
    """Set whether a class of `__main__` that came with a handler is installed in this process's `__main__`.

    Meant for workers, whose `__main__` is not the user's: the class is then sent by its name and the caller gets
    its own class. Only top level names that are free are taken.
    """
    _Process.adopts = enabled


def importing() -> str | None:
    """Return the module that this child process is importing for something it unpacks, if it is."""
    return _Process.imports[-1] if _Process.imports else None


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

    make = _ByValuePickler if by_value else _AdoptingPickler if _Process.adopts else pickle.Pickler
    pickler = make(file, 5, buffer_callback=in_band)
    if not by_value and (own := _own_reducers()):
        pickler.dispatch_table = copyreg.dispatch_table | own
    for group in [events] if separate else ([event] for event in events):
        pickler.dump(group)
        pickler.clear_memo()
    file.write(_END)
    return file.getvalue(), buffers


def dumps(value: Any) -> bytes:
    """Pickle one value; what cannot be imported is written with its definition. Raises whatever pickle or the value raises."""
    file = io.BytesIO()
    _DefiningPickler(file, 5).dump(value)
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

    class Looking(_DefiningPickler):
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


def _own_reducers() -> dict[type, Callable[[Any], Any]]:
    """Return the reducers that take precedence over those of pickle and cloudpickle."""
    numpy = sys.modules.get("numpy")
    return {numpy.ndarray: _reduce_array} if numpy else {}


def _reduce_array(array: Any) -> Any:
    """Reduce a numpy array so that it arrives writable, also if the sender's is a read-only view."""
    return (array if array.flags.writeable else array.copy(order="K")).__reduce_ex__(5)


def _refuse(value: Any) -> Any:
    raise TypeError(f"{kind_of(value)} cannot be carried as what it is")


def _reduce_code(code: CodeType) -> Any:
    """Reduce code with the name of its file, which cloudpickle leaves out from 3.1.3 on: tracebacks show lines by it."""
    make, parts = cloudpickle.Pickler.dispatch_table[CodeType](code)
    # In its place among the arguments: a function of ours that set it would be named in what states are kept as.
    return make, (*parts[:_FILENAME], code.co_filename, *parts[_FILENAME + 1 :])


class _DefiningPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Writes classes and functions that cannot be imported with their definition; `own` reducers take precedence."""

    def __init__(
        self, file: io.BytesIO, protocol: int, *, buffer_callback: Any = None, own: dict[type, Any] | None = None
    ) -> None:
        # The table is read once, when the base starts.
        self.dispatch_table = {**cloudpickle.Pickler.dispatch_table, CodeType: _reduce_code, **(own or {})}
        super().__init__(file, protocol, buffer_callback=buffer_callback)


class _ByValuePickler(_DefiningPickler):
    """The same for events: refuses objects that would arrive as another type."""

    def __init__(self, file: io.BytesIO, protocol: int, *, buffer_callback: Any) -> None:
        # cloudpickle would turn these two into bytes and StringIO.
        own = {memoryview: _refuse, io.TextIOWrapper: _refuse, **_own_reducers()}
        super().__init__(file, protocol, buffer_callback=buffer_callback, own=own)


class _AdoptingPickler(pickle.Pickler):
    """Installs classes that say they are from `__main__` there before they are written by name."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) and value.__module__ == "__main__" and value.__qualname__.isidentifier():
            main = sys.modules["__main__"]
            if not hasattr(main, value.__qualname__):
                setattr(main, value.__qualname__, value)
        return NotImplemented


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
            if module != "__main__" or _Process.resolver is None:
                raise
        return _Process.resolver(name)

    def _make_class(self, make: Callable[..., type], *arguments: Any) -> type:
        is_known = arguments[-2] in _by_value._DYNAMIC_CLASS_TRACKER_BY_ID
        cls = make(*arguments)
        if is_known:
            self._known |= {cls}
        return cls

    def _fill_class(self, fill: Callable[[type, Any], type], cls: type, state: Any) -> type:
        # A class that this process has keeps its own attributes: what another process did to its copy stays there.
        return cls if cls in self._known else fill(cls, state)


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
