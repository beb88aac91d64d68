"""Long checks in a process of their own that start no runs and look at nobody's files: begun when a session begins.

A module whose tests wait for one has a function `beside(folder)` that prepares a folder and gives the command to run in
it; the fixture `done_beside` gives what came of it. In a short session it is run when it is asked for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

#: From so many tests on a session is long.
_LONG = 300
_LIMIT_S = 110


class Beside:
    """A check under way; what it says goes to files, so that it never waits for a reader."""

    def __init__(self, module: ModuleType, folder: Path) -> None:
        self._command: list[str] = module.beside(folder)
        self._folder = folder
        with open(folder / "said", "wb") as said, open(folder / "errors", "wb") as errors:
            self._process = subprocess.Popen(self._command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=errors)

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end and give what it said; raises `subprocess.TimeoutExpired` when it takes too long."""
        code = self._process.wait(_LIMIT_S)
        said, errors = ((self._folder / name).read_text() for name in ("said", "errors"))
        return subprocess.CompletedProcess(self._command, code, said, errors)

    def end(self) -> None:
        """Kill it where nobody has waited for it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="session", autouse=True)
def checks_beside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Beside]]:
    """Begin the checks that the tests of a long session will ask for."""
    begun: dict[str, Beside] = {}
    items = request.session.items
    if len(items) >= _LONG:
        for item in items:
            module = getattr(item, "module", None)
            if "done_beside" in getattr(item, "fixturenames", ()) and module.__name__ not in begun:
                begun[module.__name__] = Beside(module, tmp_path_factory.mktemp(module.__name__))
    yield begun
    for check in begun.values():
        check.end()


@pytest.fixture(scope="module")
def done_beside(
    request: pytest.FixtureRequest, checks_beside: dict[str, Beside], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.CompletedProcess[str]]:
    """Give how the check of this module has ended and what it said."""
    module = request.module
    check = checks_beside.get(module.__name__) or Beside(module, tmp_path_factory.mktemp(module.__name__))
    try:
        yield check.wait()
    finally:
        check.end()
