"""Makes the system calls of a forked process fail, or end it, one after the other: ptrace by ctypes, on x86-64 Linux.

`at_each_call(work, act)` yields once for every call that `work` makes: in the first round its first call is met, in the
second its second, until a round ends without having met its call. The process that uses it has one thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64"

_TRACEME, _GETREGS, _SETREGS, _DETACH, _SYSCALL, _SETOPTIONS = 0, 12, 13, 17, 24, 0x4200
_SYSGOOD, _EXITKILL = 1, 0x100000
#: The place of registers in `struct user_regs_struct` (sys/user.h).
_RAX, _ORIG_RAX, _REGISTERS = 10, 15, 27
#: Calls that touch files, by their number on x86-64 (unistd_64.h).
FILE_CALLS = {
    0: "read", 1: "write", 2: "open", 4: "stat", 5: "fstat", 8: "lseek", 17: "pread64", 18: "pwrite64", 72: "fcntl",
    74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir", 86: "link", 87: "unlink",
    90: "chmod", 91: "fchmod", 257: "openat", 262: "newfstatat", 263: "unlinkat", 268: "fchmodat", 285: "fallocate",
}  # fmt: skip
#: Those that need room on the disk.
WRITING_CALLS = frozenset(number for number, name in FILE_CALLS.items() if name in (
    "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "open", "openat", "fallocate", "mkdir",
))  # fmt: skip

Act = int | Literal["kill"]


@dataclass(frozen=True, slots=True)
class Met:
    """A call that was met: which one, and how the process ended (as `Popen.returncode`)."""

    at: int
    call: str
    returncode: int


def at_each_call(
    work: Callable[[], object], act: Act, calls: frozenset[int] = frozenset(FILE_CALLS), step: int = 1
) -> Iterator[Met]:
    """Run `work` in a fork again and again, each time with the next of its calls failing with the errno `act`, or killed.

    With a `step` only each `step`-th call is met.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # both take turns, which is dear between two cores
    for at in range(1, 10_000, step):
        met = _one(work, at, act, calls)
        if met is None:
            return
        yield met
    raise AssertionError("it makes calls without end")


def _one(work: Callable[[], object], at: int, act: Act, calls: frozenset[int]) -> Met | None:
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _ptrace(_TRACEME, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, _SYSGOOD | _EXITKILL)
    seen, entering, met, pending = 0, True, "", 0
    while True:
        _ptrace(_SYSCALL, pid, pending)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            return Met(at, met, os.waitstatus_to_exitcode(status)) if met else None
        stopped_by = os.WSTOPSIG(status)
        pending = 0
        if stopped_by != signal.SIGTRAP | 0x80:
            pending = stopped_by
            continue
        if entering:
            number = _registers(pid)[_ORIG_RAX]
            seen += number in calls
            if number in calls and seen == at:
                met = FILE_CALLS[number]
                if act == "kill":
                    os.kill(pid, signal.SIGKILL)
                    continue
                _set(pid, _ORIG_RAX, -1)  # no such call is made
        elif met:
            _set(pid, _RAX, -int(act))
            _ptrace(_DETACH, pid, 0)
            _, status = os.waitpid(pid, 0)
            return Met(at, met, os.waitstatus_to_exitcode(status))
        entering = not entering


def _ptrace(request: int, pid: int, data: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, pid, None, data) == -1:
        code = ctypes.get_errno()
        if code != errno.ESRCH or request != _SYSCALL:  # it was killed meanwhile
            raise OSError(code, f"ptrace({request}): {os.strerror(code)}")


def _registers(pid: int) -> ctypes.Array[ctypes.c_ulong]:
    registers = (ctypes.c_ulong * _REGISTERS)()
    _ptrace(_GETREGS, pid, ctypes.addressof(registers))
    return registers


def _set(pid: int, register: int, value: int) -> None:
    registers = _registers(pid)
    registers[register] = value & (2**64 - 1)
    _ptrace(_SETREGS, pid, ctypes.addressof(registers))
