"""Files as sources and sinks: one name for both ends.

Decides the public arguments; `text`, `json_lines` and `csv_file` decide what a line, a value and a row is.

All three take a path or pattern (`*`, `?`, `[`; sorted by name) or a list of them, decompress and compress by the
suffixes `.gz`, `.bz2` and `.xz`, and mean standard input and output by `"-"`. As a sink they write `NAME.partial`,
which becomes `NAME` when the run has succeeded and stays when it failed; with `append=True` every batch goes to the
end of `NAME` at once, compressed ones as streams that follow each other. With `follow=True` one plain file is read as
it grows, for ever, also past its rotation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .csv_file import CsvFile
from .streams.paths import Paths
from .text import TextFile

if TYPE_CHECKING:
    from .json_lines import JsonFile

__all__ = ["CsvFile", "JsonFile", "TextFile", "csv", "jsonl", "lines"]


def lines(
    path: Paths, *, encoding: str = "utf-8", keep_newline: bool = False, append: bool = False, follow: bool = False
) -> TextFile:
    """Read or write text files line by line: every event is a `str` without its line end.

    `\\n`, `\\r\\n` and `\\r` end a line; a last line without an end is a line. With `keep_newline` every line keeps an
    end, always as `\\n`. A line that is not `encoding` text is a `ValueError` with file and line number. As a sink,
    an event that is no `str` or has a line end inside is refused. Standard output keeps its own encoding.

    Raises `GraphError` for arguments that are no paths, an unknown encoding and what cannot be followed; files are
    looked up when a run starts.
    """
    return TextFile(path, encoding=encoding, keep_newline=keep_newline, append=append, follow=follow)


def jsonl(path: Paths, *, type: Any = None, append: bool = False, follow: bool = False) -> JsonFile:
    """Read or write JSON lines files: every line is one JSON value, in UTF-8.

    Blank lines are skipped; a line that is not JSON is a `ValueError` with file and line number. With `type` each line
    becomes a value of it, and one that does not fit is an error that also names the field: a dataclass, a TypedDict, or a
    `msgspec.Struct` of an imported module. As a sink, what JSON cannot carry is refused with its field named: sets, bytes,
    dates, keys that are no `str`, NaN and infinities. Tuples are written as arrays, dead letters as objects, with the `repr`
    of an event that JSON cannot carry.

    Raises `GraphError` for arguments that are no paths and for what cannot be followed; files are looked up
    when a run starts.
    """
    from .json_lines import JsonFile  # its parser takes 10 ms to import

    return JsonFile(path, append=append, follow=follow, type_=type)


def csv(
    path: Paths, *, encoding: str = "utf-8", delimiter: str = ",", append: bool = False, follow: bool = False
) -> CsvFile:
    """Read or write CSV files: every row is a dict of texts by the names in the file's first row.

    Empty rows are skipped; a row with more or fewer fields than the header is a `ValueError` with file and line
    number. As a sink, the keys of the first event are the header, or those of the file that is appended to; other keys
    and values that are no single field (lists, dicts, sets, bytes) are refused; `None` is written as an empty field.

    Raises `GraphError` for arguments that are no paths, an unknown encoding, a delimiter that is not one character and
    what cannot be followed; files are looked up when a run starts.
    """
    return CsvFile(path, encoding=encoding, delimiter=delimiter, append=append, follow=follow)
