"""Nobody survives a caller that is killed, whatever it was doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from watched_children import WITH_THREAD, Watch, modules, parent_of, told

__all__ = ["modules"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


CALLER = '''
import os, signal, sys, threading
from sluiceway.engine.local.processes.nursery import ChildStarted, Nursery
import selectors

out, kinds = sys.argv[1], sys.argv[2].split(",")
preload = [sys.argv[3]] if sys.argv[3] else []
nursery = Nursery(entry="child_entries:act", preload=preload)
nursery.start()
for number, kind in enumerate(kinds):
    nursery.spawn(kind, f"{out}.{number}".encode())
while len(nursery.alive) < len(kinds):
    with selectors.DefaultSelector() as selector:
        selector.register(nursery.fileno(), selectors.EVENT_READ)
        selector.select(5)
    nursery.events()
if sys.argv[4] == "fork" and os.fork() == 0:  # holds a copy of every descriptor of the caller
    os.write(1, f"fork {os.getpid()}\\n".encode())
    signal.pause()
threading.Thread(target=signal.pause, daemon=True).start()
os.write(1, f"ready {nursery.alive[kinds[0]]}\\n".encode())
signal.pause()
'''


class Caller:
    """A script that uses a nursery and waits."""

    def __init__(self, tmp_path: Path, kinds: str, *, preload: str = "", fork: str = "") -> None:
        script = tmp_path / "caller.py"
        script.write_text(CALLER)
        self.out = tmp_path / "out"
        command = [sys.executable, str(script), str(self.out), kinds, preload, fork]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True)

    def __enter__(self) -> Caller:
        assert self.process.stdout is not None
        self._output: IO[bytes] = self.process.stdout
        return self

    def __exit__(self, *_: object) -> None:
        self._output.close()
        self.process.kill()
        self.process.wait()

    def line(self) -> tuple[str, int]:
        word, number = self._output.readline().split()
        return word.decode(), int(number)


@pytest.mark.parametrize("preload", ["", "with_thread", "no_pidfd"])
def test_nobody_survives_a_killed_caller(tmp_path: Path, modules: Path, preload: str) -> None:
    (modules / "with_thread.py").write_text(WITH_THREAD)
    (modules / "no_pidfd.py").write_text("import os\ndel os.pidfd_open\n")
    kinds = "stuck,deaf,parent"
    with Caller(tmp_path, kinds, preload=preload) as caller:
        _, child = caller.line()
        pids = [pid for number in range(kinds.count(",") + 1) for pid in told(Path(f"{caller.out}.{number}"))]
        watch = Watch(*pids, parent_of(child))
        caller.process.kill()
        assert not watch.left_after(2)


def test_nobody_survives_a_killed_caller_that_was_forked(tmp_path: Path, modules: Path) -> None:
    """The fork holds the caller's end of the line, so that end never closes."""
    with Caller(tmp_path, "stuck", fork="fork") as caller:
        said = dict([caller.line(), caller.line()])
        watch = Watch(*told(Path(f"{caller.out}.0")), parent_of(said["ready"]))
        fork = Watch(said["fork"])
        caller.process.kill()
        assert not watch.left_after(2)
        os.kill(said["fork"], signal.SIGKILL)
        assert not fork.left_after(2)


def test_children_of_a_killed_zygote_end_without_the_caller(tmp_path: Path, modules: Path) -> None:
    with Caller(tmp_path, "stuck,deaf") as caller:
        _, child = caller.line()
        watch = Watch(*told(Path(f"{caller.out}.0")), *told(Path(f"{caller.out}.1")))
        caller.process.send_signal(signal.SIGSTOP)  # it can do nothing for them
        os.kill(parent_of(child), signal.SIGKILL)
        assert not watch.left_after(2)


def test_nobody_survives_a_caller_killed_while_the_zygote_imports(tmp_path: Path, modules: Path) -> None:
    (modules / "hangs.py").write_text(
        f"import child_entries, signal\nchild_entries.tell({str(tmp_path / 'zygote')!r})\nsignal.pause()\n"
    )
    with Caller(tmp_path, "wait", preload="hangs") as caller:
        watch = Watch(*told(tmp_path / "zygote"))
        caller.process.kill()
        assert not watch.left_after(2)
