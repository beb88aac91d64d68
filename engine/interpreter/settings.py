"""Settings of the calling interpreter that user code can see: read there, and put in place in every process of the run.

Decides which settings these are. A process loads no module for a setting that the caller has not changed. What a program
keeps in its own modules is not a setting: `setup=` puts it into every process.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ..codec import pickling

#: A setting without a default of its own is always sent.
_ALWAYS: Any = object()
#: The least recursion limit that a process of the run itself needs.
_MIN_RECURSION = 1000


class _Setting(Struct, frozen=True):
    """One setting of a module: plain values are read, and written in a process where they differ."""

    module: str
    default: Any
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], object]


_CONTEXT = (28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0, ("DivisionByZero", "InvalidOperation", "Overflow"))
_LEVELS = {50: "CRITICAL", 40: "ERROR", 30: "WARNING", 20: "INFO", 10: "DEBUG", 0: "NOTSET"}
_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_NUMPY_PRINT = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
}


def _read_context(context: Any) -> tuple[Any, ...]:
    traps = tuple(sorted(signal.__name__ for signal, trapped in context.traps.items() if trapped))
    return context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp, traps


def _write_context(context: Any, decimal: Any, value: tuple[Any, ...]) -> None:
    *numbers, traps = value
    for name, number in zip(("prec", "rounding", "Emin", "Emax", "capitals", "clamp"), numbers, strict=True):
        setattr(context, name, number)
    for signal in context.traps:
        context.traps[signal] = signal.__name__ in traps


def _write_level_names(logging: Any, names: dict[int, str]) -> None:
    for level, name in names.items():
        logging.addLevelName(level, name)


def _write_int_digits(sys: Any, digits: int) -> None:
    sys.set_int_max_str_digits(digits)


def _read_key(process: Any) -> bytes | None:
    # Nobody but a manager or a listener needs the key.
    if "multiprocessing.connection" not in sys.modules:
        return None
    return bytes(process.current_process().authkey)


def _write_key(process: Any, key: bytes | None) -> None:
    if key is not None:
        process.current_process().authkey = key


def _read_tracing(tracing: Any) -> int:
    """Return how many frames of each allocation are traced, if that was asked for where the program was started."""
    asked = "tracemalloc" in sys._xoptions or "PYTHONTRACEMALLOC" in os.environ
    return int(tracing.get_traceback_limit()) if asked and tracing.is_tracing() else 0


def _write_tracing(tracing: Any, frames: int) -> None:
    if frames:
        tracing.start(frames)


_SETTINGS = {
    "tracing of memory": _Setting("_tracemalloc", 0, _read_tracing, _write_tracing),
    "recursion limit": _Setting(
        "sys",
        _MIN_RECURSION,
        lambda sys: max(_MIN_RECURSION, sys.getrecursionlimit()),
        lambda sys, limit: sys.setrecursionlimit(limit),
    ),
    "digits of an int": _Setting("sys", _ALWAYS, lambda sys: sys.get_int_max_str_digits(), _write_int_digits),
    "decimal context": _Setting(
        "decimal",
        _CONTEXT,
        lambda decimal: _read_context(decimal.getcontext()),
        lambda decimal, value: _write_context(decimal.getcontext(), decimal, value),
    ),
    "decimal context of new threads": _Setting(
        "decimal",
        _CONTEXT,
        lambda decimal: _read_context(decimal.DefaultContext),
        lambda decimal, value: _write_context(decimal.DefaultContext, decimal, value),
    ),
    "locale": _Setting(
        "_locale",
        _ALWAYS,
        lambda locale: locale.setlocale(locale.LC_ALL),
        lambda locale, name: locale.setlocale(locale.LC_ALL, name),
    ),
    "socket timeout": _Setting(
        "socket", None, lambda socket: socket.getdefaulttimeout(), lambda socket, s: socket.setdefaulttimeout(s)
    ),
    "csv field limit": _Setting("csv", 131072, lambda csv: csv.field_size_limit(), lambda csv, n: csv.field_size_limit(n)),
    "names of log levels": _Setting(
        "logging", _LEVELS, lambda logging: dict(logging._levelToName), _write_level_names
    ),
    "disabled logging": _Setting(
        "logging", 0, lambda logging: logging.root.manager.disable, lambda logging, level: logging.disable(level)
    ),
    "key of managers": _Setting("multiprocessing.process", None, _read_key, _write_key),
    "numpy errors": _Setting("numpy", _NUMPY_ERRORS, lambda np: np.geterr(), lambda np, value: np.seterr(**value)),
    "numpy printing": _Setting(
        "numpy",
        _NUMPY_PRINT,
        lambda np: {name: np.get_printoptions()[name] for name in _NUMPY_PRINT},
        lambda np, value: np.set_printoptions(**value),
    ),
}


def read_settings() -> bytes:
    """Return the settings of this interpreter and thread, packed for `apply_settings`."""
    values = {}
    for built_in in "_locale", "_tracemalloc":
        importlib.import_module(built_in)
    for name, setting in _SETTINGS.items():
        module = sys.modules.get(setting.module)
        if module is not None and (value := setting.read(module)) != setting.default:
            values[name] = value
    return pickling.dumps((values, _read_filters()))


def apply_settings(packed: bytes, *, warn: bool) -> None:
    """Put the settings of the calling interpreter in place in this thread and process; `warn`: its warning filters too.

    Modules that user code imports change settings too, so this is called before they are imported and once more afterwards.
    """
    values, filters = pickling.loads(packed)
    for name, setting in _SETTINGS.items():
        if name in values:
            module: Any = importlib.import_module(setting.module)
        else:
            module = sys.modules.get(setting.module)
        wanted = values.get(name, setting.default)
        if module is not None and wanted is not _ALWAYS and setting.read(module) != wanted:
            setting.write(module, wanted)
    if warn:
        _write_filters(filters)


# -- the filters of warnings ------------------------------------------------------------------------------------


def _read_filters() -> list[tuple[Any, ...]]:
    """Return the filters as plain values, with their categories by name: not every process has loaded them."""
    import warnings

    filters = []
    for action, message, category, module, line in list(warnings.filters):
        assert isinstance(category, type)
        home = (category.__module__, category.__qualname__)
        filters.append((action, _pattern(message), home, _pattern(module), line))
    return filters


def _pattern(pattern: Any) -> tuple[str, int] | str | None:
    return (pattern.pattern, pattern.flags) if isinstance(pattern, re.Pattern) else pattern


def _write_filters(filters: list[tuple[Any, ...]]) -> None:
    """Put the caller's filters in place; one whose category no code of this process has loaded cannot apply here."""
    import warnings

    known = []
    for action, message, (home, name), module, line in filters:
        category = getattr(sys.modules.get(home), name, None)
        if isinstance(category, type):
            known.append((action, _compiled(message), category, _compiled(module), line))
    if known != list(warnings.filters):
        warnings.resetwarnings()  # so that what was decided by the filters before is forgotten
        warnings.filters[:] = known  # type: ignore[index]  # the module itself changes this list


def _compiled(pattern: tuple[str, int] | str | None) -> Any:
    return re.compile(*pattern) if isinstance(pattern, tuple) else pattern
