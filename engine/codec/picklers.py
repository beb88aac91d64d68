"""How objects are written with their definitions: what a script defines, and what no other process could import.

Decides what cloudpickle is told otherwise: `__main__` by either of its names, objects that pickle themselves by a name of it,
what a script has imported, slots, cached functions and properties. How batches are written is decided in `pickling`.
"""

from __future__ import annotations

import copyreg
import functools
import io
import sys
import typing
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, MemberDescriptorType
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as _by_value

from ...nodes.errors import kind_of
from . import main_module

_FILENAME = 10  # the place of `co_filename` among the arguments of `CodeType`, in Python 3.11 to 3.13
#: What this process has sent of scripts that its `__main__` does not have.
SENT = main_module.Sent()


def own_reducers() -> dict[type, Callable[[Any], Any]]:
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


class DefiningPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Writes classes and functions that cannot be imported with their definition; `own` reducers take precedence."""

    def __init__(
        self,
        file: io.BytesIO,
        protocol: int,
        *,
        buffer_callback: Any = None,
        own: dict[type, Any] | None = None,
        look: Callable[[Any], None] | None = None,
    ) -> None:
        # The table is read once, when the base starts.
        self.dispatch_table = {**cloudpickle.Pickler.dispatch_table, **_REDUCERS, **(own or {})}
        self._look = look
        self._recorded: set[str] = set()
        self._probes = False  #: whether it is only to be seen if something can be pickled
        super().__init__(file, protocol, buffer_callback=buffer_callback)

    def reducer_override(self, value: Any) -> Any:
        """Return how a function or class is written; what the user's script defines goes with its definition."""
        if self._look is not None:
            self._look(value)
        reduced = super().reducer_override(value)
        if isinstance(value, type):
            if main_module.is_own(value):
                self._record(value, value.__qualname__)
                if reduced is NotImplemented:
                    reduced = _by_value._dynamic_class_reduce(value)
            made = reduced is not NotImplemented and reduced[0].__module__ == _by_value.__name__ and len(reduced) > 2
            return _whole_class(value, reduced) if made else reduced
        if isinstance(value, FunctionType):
            return self._reduce_function(value, reduced)
        if reduced is NotImplemented and (home := main_module.home_of_global_generator(value)) is not None:
            return home.__reduce__()
        return _by_definition(value) if reduced is NotImplemented and self._is_lost(value) else reduced

    def _is_lost(self, value: Any) -> bool:
        """Whether an object of a script pickles itself by a name that `__main__` does not have, as under a profiler."""
        kind: Any = type(value)
        if kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__:
            return False
        if not main_module.is_own(value):
            return False
        name = value.__reduce_ex__(5)
        if not isinstance(name, str) or getattr(sys.modules[main_module.MAIN], name, None) is value:
            return False
        self._record(value, name)
        return True

    def _record(self, value: Any, name: str) -> None:
        """Record what is sent of a script; of two of one name the first that is met: a dataclass refers to what it was."""
        if name not in self._recorded:
            self._recorded.add(name)
            SENT.record(value, name)

    def _reduce_function(self, function: Any, reduced: Any) -> Any:
        if reduced is not NotImplemented and hasattr(function, "registry") and hasattr(function, "dispatch"):
            return functools.singledispatch, (function.__wrapped__,), dict(function.registry), None, None, _fill_dispatch
        if not main_module.is_own(function):
            return reduced
        self._record(function, function.__qualname__)
        return self._dynamic_function_reduce(function) if reduced is NotImplemented else reduced

    def _dynamic_function_reduce(self, function: FunctionType) -> Any:
        make, arguments, (state, slots), *rest = super()._dynamic_function_reduce(function)
        names = main_module.names_of_hints_of(function) if main_module.is_own(function) else {}
        if main_module.looks_up_by_text(function) and not self._probes:
            names |= {name: value for name, value in function.__globals__.items() if name[:2] != "__" and _can_be_sent(value)}
        names |= slots["__globals__"] | main_module.own_name(function, function.__globals__)
        slots["__globals__"] = {name: main_module.by_reference(name, value) for name, value in names.items()}
        if function.__closure__:
            pairs = zip(function.__code__.co_freevars, function.__closure__, strict=True)
            slots["__closure__"] = tuple(_cell_by_reference(name, cell) for name, cell in pairs)
        return make, arguments, (state, slots), *rest


def _can_be_sent(value: Any) -> bool:
    probe = DefiningPickler(io.BytesIO(), 5)
    probe._probes = True
    try:
        probe.dump(value)
    except Exception:  # whatever its own code raises
        return False
    return True


def _cell_by_reference(name: str, cell: CellType) -> CellType:
    try:
        value = main_module.by_reference(name, cell.cell_contents)
    except ValueError:  # not bound yet
        return cell
    return cell if value is cell.cell_contents else CellType(value)


def _whole_class(cls: type, reduced: Any) -> Any:
    """Return how a class is written with its definition: with its place in its module, its slots, what its hints name."""
    make, arguments, (state, _), *rest = reduced
    if make is _by_value._make_skeleton_class:
        state = {name: part for name, part in state.items() if not isinstance(part, MemberDescriptorType)}
        state.pop("__msgspec_cache__", None)  # what msgspec has found out about the class, and finds out again
        state["__qualname__"] = cls.__qualname__
        if state.get("__slots__"):
            arguments = (*arguments[:3], {**arguments[3], "__slots__": state["__slots__"]}, *arguments[4:])
    return make, arguments, (state, main_module.names_around(cls, SENT) if main_module.is_own(cls) else {}), *rest


def _by_definition(value: Any) -> Any:
    """Reduce an object that pickles itself by its name to what it is made from: a cached function, a sentinel."""
    kind: Any = type(value)
    if kind is functools._lru_cache_wrapper:
        words = value.cache_parameters()
        return kind, (value.__wrapped__, words["maxsize"], words["typed"], functools._CacheInfo), vars(value)
    if kind is typing.NewType:
        return kind, (value.__name__, value.__supertype__), vars(value)
    return copyreg.__newobj__, (kind,), value.__getstate__()  # type: ignore[attr-defined]


def _reduce_cached_property(value: functools.cached_property[Any]) -> Any:
    """Reduce a cached property without its lock (until Python 3.12)."""
    return functools.cached_property, (value.func,), {"attrname": value.attrname}


def _fill_dispatch(function: Any, registry: dict[type, Any]) -> None:
    """Register what a function dispatches to."""
    for kind, implementation in registry.items():
        if kind is not object:
            function.register(kind, implementation)


def dumps_definition(value: Any) -> bytes:
    """Pickle a value that is asked for by its name, with its definition, though it would be pickled by that name."""
    file = io.BytesIO()
    _NamedPickler(file, 5, named=value).dump(value)
    return file.getvalue()


class _NamedPickler(DefiningPickler):
    """Writes one object, which pickles itself by its name, by what it is made from: a cached function, a sentinel."""

    def __init__(self, file: io.BytesIO, protocol: int, *, named: Any) -> None:
        super().__init__(file, protocol)
        self._named = named

    def reducer_override(self, value: Any) -> Any:
        reduced = super().reducer_override(value)
        if value is not self._named or reduced is not NotImplemented or not isinstance(value.__reduce_ex__(5), str):
            return reduced
        return _by_definition(value)


_REDUCERS = {CodeType: _reduce_code, functools.cached_property: _reduce_cached_property}


class ByValuePickler(DefiningPickler):
    """The same for events: refuses objects that would arrive as another type."""

    def __init__(self, file: io.BytesIO, protocol: int, *, buffer_callback: Any) -> None:
        # cloudpickle would turn these two into bytes and StringIO.
        own = {memoryview: _refuse, io.TextIOWrapper: _refuse, **own_reducers()}
        super().__init__(file, protocol, buffer_callback=buffer_callback, own=own)
