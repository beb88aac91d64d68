"""`__main__` in the processes of a run: a module with the names of the user's script, which those processes never run.

Decides which objects are the script's, which names of it code needs that no pickle sees (`globals()`, type hints as text),
and which of its names are imported ones: those travel as what they are imported from.
"""

from __future__ import annotations

import dis
import inspect
import pkgutil
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .shape import ATOMS

MAIN = "__main__"
#: The script's names: in a process that multiprocessing has spawned, its functions and classes say the second.
NAMES = frozenset({MAIN, "__mp_main__"})

Resolver = Callable[[str], object]

#: What may be shipped only because its name is written somewhere: code and types, never data.
_CODE = (type, FunctionType, ModuleType)
_WORDS = re.compile(r"[^\W\d]\w*")
#: Functions that look names up by text.
_BY_TEXT = frozenset({"globals", "eval", "exec"})


class MainModule(ModuleType):
    """The `__main__` of a worker: what it lacks is asked of the calling process when somebody wants it."""

    def __init__(self, resolve: Resolver) -> None:
        super().__init__(MAIN)
        _RESOLVERS[self] = resolve

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return self.__dict__.setdefault(name, _RESOLVERS[self](name))


#: Beside the modules, whose attributes are the user's.
_RESOLVERS: weakref.WeakKeyDictionary[MainModule, Resolver] = weakref.WeakKeyDictionary()


class Sent:
    """Objects of scripts that were sent with their definition and that `__main__` does not have: as under a profiler."""

    def __init__(self) -> None:
        self.objects: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def record(self, value: Any, name: str) -> None:
        """Record an object that was sent by value, under its name in the script."""
        if name.isidentifier() and getattr(sys.modules[MAIN], name, None) is not value:
            with self._lock, suppress(TypeError):  # one without room for a weak reference
                self.objects[name] = value

    def find(self, name: str) -> Any:
        """Return the object of that name; raises `AttributeError` if none was sent."""
        try:
            return self.objects[name]
        except KeyError:
            raise AttributeError(f"no script has sent {name!r}") from None


def is_own(value: Any) -> bool:
    """Whether a function or class says that it is the script's."""
    return getattr(value, "__module__", None) in NAMES


def looks_up_by_text(function: FunctionType) -> bool:
    """Whether the code of a function, or of one inside it, looks names up by their text: then it may need all there are."""
    return any(map(_calls_by_text, _codes_of(function.__code__)))


def names_of_hints_of(function: FunctionType) -> dict[str, Any]:
    """Return what the type hints of a function of the script name, where they are text."""
    return _named_in(function.__annotations__.values(), function.__globals__)


def names_around(cls: type, sent: Sent) -> dict[str, Any]:
    """Return what a class of the script needs in `__main__`: its own name, and what its type hints name where they are text."""
    around = vars(sys.modules[cls.__module__])
    return _named_in(inspect.get_annotations(cls).values(), around) | own_name(cls, {**sent.objects, **around})


def own_name(value: Any, around: dict[str, Any]) -> dict[str, Any]:
    """Return a function or class of a script by its name, if that is its name there: a decorator may have it taken."""
    name = value.__qualname__
    return {name: value} if name.isidentifier() and is_own(value) and around.get(name) is value else {}


def _named_in(hints: Any, around: dict[str, Any]) -> dict[str, Any]:
    words = {word for hint in hints if isinstance(hint, str) for word in _WORDS.findall(hint)}
    return {word: around[word] for word in sorted(words) if isinstance(around.get(word), _CODE)}


def _codes_of(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes_of(inner)


def _calls_by_text(code: CodeType) -> bool:
    if _BY_TEXT.isdisjoint(code.co_names):  # which has the names of attributes too
        return False
    return any(it.opname == "LOAD_GLOBAL" and it.argval in _BY_TEXT for it in dis.get_instructions(code))


class Imported:
    """Stands in a pickle for an object that is an attribute of a module which can be imported."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return pkgutil.resolve_name, (self._path,)


def home_of_global_generator(value: Any) -> Imported | None:
    """Return where a process finds its own in place of the global generator of random numbers of this one, if it is that."""
    for module, name in ("random", "_inst"), ("numpy.random.mtrand", "_rand"):
        if module in sys.modules and value is getattr(sys.modules[module], name, None):
            return Imported(f"{module}:{name}")
    return None


def by_reference(name: str, value: Any) -> Any:
    """Return what is to be pickled for a global or captured variable: the object, or where it was imported from.

    Functions, classes and modules are told by their own names; plain values are as good by value.
    """
    if type(value) in ATOMS or isinstance(value, _CODE):
        return value
    for module, attribute in _homes(name, value):
        if _assigns(module, attribute):
            return Imported(f"{module.__name__}:{attribute}")
    return value


def _homes(name: str, value: Any) -> Iterator[tuple[ModuleType, str]]:
    """Yield the importable modules and attributes that are this very object, those of the same name first."""
    modules = [
        module
        for known, module in sys.modules.copy().items()
        if known not in NAMES and isinstance(module, ModuleType) and getattr(module, "__spec__", None) is not None
    ]
    for module in modules:
        if module.__dict__.get(name) is value:
            yield module, name
    for module in modules:
        for attribute, found in module.__dict__.copy().items():
            if found is value and attribute != name:
                yield module, attribute


def _assigns(module: ModuleType, name: str) -> bool:
    """Whether the code of a module makes that name when it is imported, and not only a constant in its place.

    A program may have put the object there itself: then an import elsewhere would not give it.
    """
    loader = getattr(module.__spec__, "loader", None)
    try:
        code = loader.get_code(module.__name__)  # type: ignore[union-attr]
    except (AttributeError, ImportError, OSError, SyntaxError):
        return False
    if code is None:
        return True  # it is written in C
    before = None
    for instruction in dis.get_instructions(code):
        stores = instruction.opname in ("STORE_NAME", "STORE_GLOBAL") and instruction.argval == name
        if stores and (before is None or not before.opname.startswith("LOAD_CONST")):
            return True
        before = instruction
    return False
