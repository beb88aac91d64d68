"""How a process of a run begins: the command of a clean interpreter, and what a child sets up before its entry runs.

A clean interpreter reads the caller's `sys.path`, the function to call and one message from its standard input, so the
user's script never runs again. This file does not know who asked for the process, nor who watches it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import ormsgpack

#: Native libraries would start one thread per core in every child; the user's own setting wins.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
HASH_SEED = "PYTHONHASHSEED"
#: Traced imports take ten times as long; `engine.interpreter.settings` begins to trace in a child when those are done.
TRACING = "PYTHONTRACEMALLOC"
_SEED = str(int.from_bytes(os.urandom(4), "little"))
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_BOOT = (
    "import os, sys; read = sys.stdin.buffer.read; "
    "sys.path[:] = map(os.fsdecode, read(int(sys.argv[1])).split(b'\\0')); "
    "from {module} import {function} as begin; begin(read(int(sys.argv[2])))"
)


def clean_interpreter(target: str, message: dict[str, Any], executable: str) -> tuple[list[str], bytes]:
    """Return the command of an interpreter that calls `target` ("module:function") with `message` packed, and its stdin.

    The flags of the calling interpreter (`-O`, `-W`, `-X`) apply to the new one too, because they change what code means.
    Memory is not traced there from the start.
    """
    import subprocess  # imported here because the zygote rarely needs it and must start fast

    module, function = target.split(":")
    path = b"\0".join(map(os.fsencode, search_path()))
    body = ormsgpack.packb(message | {"argv": [os.fsencode(word) for word in sys.argv], "tracing": os.environ.get(TRACING)})
    flags = _without_tracing(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]
    boot = _BOOT.format(module=module, function=function)
    return [executable, *flags, "-c", boot, str(len(path)), str(len(body))], path + body


def _without_tracing(flags: list[str]) -> list[str]:
    traced = [at for at, flag in enumerate(flags) if flag.startswith("tracemalloc") and flags[at - 1] == "-X"]
    return [flag for at, flag in enumerate(flags) if at not in traced and at + 1 not in traced]


def search_path() -> list[str]:
    """Return the caller's `sys.path` for another process: absolute, and with the folders of what it has imported.

    An entry may be relative to a folder that was left since, and a program may take one away once it has imported.
    """
    path = [_absolute(os.fsdecode(entry)) for entry in sys.path if isinstance(entry, (str, bytes))]
    known = set(path)
    for name, module in sys.modules.copy().items():
        spec = getattr(module, "__spec__", None)
        if "." in name or spec is None or not spec.has_location or not isinstance(spec.origin, str):
            continue
        folder = os.path.dirname(spec.origin)
        if spec.submodule_search_locations is not None:
            folder = os.path.dirname(folder)
        if folder not in known and os.path.isabs(folder):
            known.add(folder)
            path.append(folder)
    return path


def _absolute(entry: str) -> str:
    if os.path.isabs(entry):
        return entry
    finder = sys.path_importer_cache.get(entry)  # it knows what the entry meant when it was first used
    return getattr(finder, "path", None) or os.path.abspath(entry)


def hash_seed() -> str | None:
    """Return the seed for the hashes of all processes that this one starts; `None` where the user has set one."""
    return None if HASH_SEED in os.environ else _SEED


def environment(seed: str | None) -> dict[str, str]:
    """Return the environment of a child: the caller's, with a seed of hashes and one thread per native library.

    What the user has set is left as it is.
    """
    seeded = {} if seed is None else {HASH_SEED: seed}
    own = {name: value for name, value in os.environ.items() if name != TRACING}
    return dict.fromkeys(THREAD_VARIABLES, "1") | seeded | own


def unpack(packed: bytes) -> dict[str, Any]:
    """Read the message of a clean interpreter, put the caller's `sys.argv` in place and remove the seed of the run."""
    message: dict[str, Any] = ormsgpack.unpackb(packed)
    if message["seed"] is not None:
        os.environ.pop(HASH_SEED, None)  # what handlers start is seeded as it would be by the caller
    if message["tracing"] is not None:
        os.environ[TRACING] = message["tracing"]
    sys.argv[:] = [os.fsdecode(word) for word in message["argv"]]
    return message


def silence_stdin() -> None:
    """Put the null device in the place of standard input."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def import_all(modules: Iterable[str]) -> None:
    """Import the modules named; one that fails raises what it raises."""
    for module in modules:
        importlib.import_module(module)


def prctl(option: int, value: int) -> None:
    """Call Linux' `prctl`; does nothing elsewhere. Raises `OSError` when the kernel refuses."""
    if sys.platform != "linux":
        return
    import ctypes  # imported here because the caller never needs it

    libc = ctypes.CDLL(None, use_errno=True)
    unused = ctypes.c_ulong(0)
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), unused, unused, unused) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def exit_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; `parent` is the pid of its process.

    This needs no cooperation, so it also works on a process that is stuck in C code. Linux only.
    """
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.platform != "win32" and os.getppid() != parent:
        os._exit(1)  # the parent ended before the kernel was told


def initialise_child(parent: int) -> None:
    """Set the process group, the parent-death signal, signal handlers and random seeds of this child.

    SIGINT is ignored, because only the caller answers a terminal's Ctrl-C; SIGTERM ends the process. The global
    generator of numpy, if it is loaded, is seeded again so that forks differ; `random` does so by itself.
    """
    if hasattr(os, "setpgid") and os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    exit_with_parent(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP", "SIGCHLD"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def run_entry(entry: str, child: str, argument: bytes, prepare: Callable[[], None]) -> NoReturn:
    """Call `prepare()`, then `entry` ("module:function") with the child's name and argument, and end the process.

    The exit code is 0 when the entry returns, that of a `SystemExit`, and 1 after any other exception, whose
    traceback goes to standard error. No frame above this call ever runs again.
    """

    def begin() -> None:
        prepare()
        module, function = entry.split(":")
        getattr(importlib.import_module(module), function)(child, argument)

    call_and_exit(begin)


def call_and_exit(call: Callable[[], None]) -> NoReturn:
    """Call `call()` and end the process when it ends, with no clean-up other than flushing the streams."""
    code = 1
    try:
        call()
        code = 0
    except SystemExit as stop:
        code = _exit_code(stop)
    except BaseException:
        traceback.print_exc()
    finally:
        flush_streams()
        os._exit(code)


def flush_streams() -> None:
    """Flush standard output and standard error."""
    for stream in (sys.stdout, sys.stderr):
        # nobody reads a closed or broken stream
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def start_clean(packed: bytes) -> NoReturn:
    """Run a child in a clean interpreter; `packed` is the message of `clean_child`."""
    message = unpack(packed)

    def prepare() -> None:
        silence_stdin()
        initialise_child(message["parent"])

    run_entry(message["entry"], message["child"], message["argument"], prepare)


def clean_child(entry: str, child: str, argument: bytes, *, executable: str, seed: str | None) -> tuple[list[str], bytes]:
    """Return the command and standard input of a child of the calling process that starts in a clean interpreter."""
    message = {"parent": os.getpid(), "seed": seed, "entry": entry, "child": child, "argument": argument}
    return clean_interpreter(f"{__name__}:start_clean", message, executable)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)
    return 1
