"""The file of `--report`: opened before the run, so that one that cannot be written is wrong usage, not a lost report."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from ..reporting.report import RunReport
from .arguments import UsageError


class ReportFile:
    """A file for the report of one run. Raises `UsageError` if it cannot be written."""

    def __init__(self, path: Path) -> None:
        if not path.absolute().parent.is_dir():
            raise UsageError(f"cannot write --report {path}: its folder does not exist; make it first")
        self._path = path
        self._is_new = not path.exists()
        try:
            # What it holds stays until there is another report.
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # open during the whole run
        except OSError as error:
            raise UsageError(f"cannot write --report {path}: {error.strerror}; name a file that can be written") from None

    def write(self, report: RunReport) -> None:
        """Replace what the file holds by a report; raises `OSError`."""
        with self._file as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                file.truncate(0)
            file.write(json.dumps(report.as_dict(), indent=2) + "\n")

    def discard(self) -> None:
        """Close the file as it was found: the run was refused."""
        self._file.close()
        if self._is_new:
            self._path.unlink(missing_ok=True)
