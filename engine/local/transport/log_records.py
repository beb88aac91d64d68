"""A log record of a child on its way to the calling process: whole, with its `extra` attributes, arguments and exception.

Decides what becomes of what cannot travel: the text of a message stands for it and its arguments, the text of an exception
for that, and `repr` for any other attribute.
"""

from __future__ import annotations

import logging
from typing import Any

import ormsgpack

from ...codec.pickling import dumps, loads
from ...codec.shape import ATOMS

_TEXT = "sluiceway_text"
_MESSAGE = frozenset({"msg", "args"})


def pack_record(record: logging.LogRecord, **more: Any) -> list[bytes]:
    """Return the frames of a record and of the attributes `more`. Raises what the arguments of its message raise."""
    text = record.getMessage()
    attributes = {**record.__dict__, **more}
    error = (attributes.pop("exc_info", None) or (None, None))[1]
    if error is not None:
        attributes["exc_text"] = record.exc_text or logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
    plain = {name: value for name, value in attributes.items() if type(value) in ATOMS}
    rest = {name: value for name, value in attributes.items() if name not in plain}
    if type(record.args) is tuple and all(type(value) in ATOMS for value in record.args):
        plain["args"] = list(rest.pop("args"))
    if error is not None:
        rest["exc_info"] = error
    if not _MESSAGE.isdisjoint(rest):
        plain[_TEXT] = text
    packed = {name: _packed(value) for name, value in rest.items()}
    for name, data in packed.items():
        if data is None and name not in _MESSAGE and name != "exc_info":
            plain[name] = repr(rest[name])
    sent = {name: data for name, data in packed.items() if data is not None}
    try:
        body = ormsgpack.packb(plain)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate
        body = ormsgpack.packb({})
        sent |= {name: dumps(value) for name, value in plain.items()}
    return [body, ormsgpack.packb(sent)] if sent else [body]


def _packed(value: Any) -> bytes | None:
    try:
        return dumps(value)
    except Exception:  # whatever its own code raises
        return None


def unpack_record(frames: list[Any]) -> logging.LogRecord:
    """Return the record of `pack_record`; raises `ValueError`, `TypeError` or `KeyError` for anything else."""
    fields: dict[str, Any] = ormsgpack.unpackb(frames[0])
    if len(frames) > 1:
        for name, data in ormsgpack.unpackb(frames[1]).items():
            try:
                fields[name] = loads(data)
            except Exception:  # its own code may raise anything here; its text stands for it
                continue
    text = fields.pop(_TEXT, None)
    if not fields.keys() >= _MESSAGE:
        fields |= {"msg": text, "args": ()}
    if isinstance(fields["args"], list):
        fields["args"] = tuple(fields["args"])
    error = fields.pop("exc_info", None)
    record = logging.makeLogRecord(fields)
    if isinstance(error, BaseException):
        record.exc_info = type(error), error, None
    if not isinstance(record.name, str) or not isinstance(record.levelno, int):
        raise TypeError("a record without a name or level")
    return record
