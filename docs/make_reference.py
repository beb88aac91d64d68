"""Makes docs/reference.md from the code: `python docs/make_reference.py`; a test holds that the page is up to date.

Decides what the page shows of each public name: its signature, its docstring, its fields or methods as tables. What
they say is written in the code, beside what it describes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import sluiceway as sw
from sluiceway.engine.options import RunOptions
from sluiceway.nodes.errors import SluicewayError
from sluiceway.nodes.meanings import default_of, meaning_of, options_of, type_of
from sluiceway.nodes.program.options import NodeNaming, Options

PAGE = Path(__file__).with_name("reference.md")

#: The page, part by part: a heading, what stands below it, and the names it shows.
PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Running", "", ("run", "iterate", "imap", "mend", "compile", "Results", "Plan", "StopSignal", "shutdown")),
    ("The page of a run", "What is served is told [here](page.md).", ("page", "Page")),
    ("On Ray", "The page about [Ray](ray.md) says what runs where.", ("ray_runner", "RayRunner")),
    ("Graphs and streams", "", ("Graph", "Stream", "KeyedStream", "zip", "merge")),
    ("Windows", "", ("tumbling", "sliding", "session", "Window")),
    ("Handlers", "", ("Handler", "per_worker", "current", "Context", "GiveUp", "DeadLetter")),
    ("Files and time", "", ("lines", "jsonl", "csv", "every")),
    (
        "Connectors",
        "Each needs an extra; the pages in [connectors](connectors/) have examples.",
        (
            "sql", "sql_sink", "kafka", "kafka_sink", "KafkaMessage", "redis", "redis_sink", "RedisEntry", "http_poll",
            "webhook", "http_sink",
        ),
    ),
    ("Your own sources and sinks", "", ("Source", "SourceReader", "Sink", "Batch")),
    ("Locks and stores", "", ("file_lock", "postgres_lock", "redis_lock", "Lock", "postgres_store")),
    ("Reports", "", ("RunReport", "NodeReport", "OrderReport", "ErrorReport")),
    (
        "Errors",
        "A wrong option of a call is a `TypeError`; everything else that ends a run, Ctrl-C aside, is one of these.",
        (
            "SluicewayError", "GraphError", "HandlerError", "HandlerTimeout", "WorkerDied", "SourceError", "SinkError",
            "CheckpointError", "LockError", "LockHeld", "LockLost", "ProtocolError", "LostEvents",
        ),
    ),
)  # fmt: skip

HEAD = """\
# Reference

Every public name of `import sluiceway as sw`, made from the code by `docs/make_reference.py`: edit there, not here.
`help(sw.run)` and its like show the same. An event's *number* is its place in the order of reading, from 0 on.
"""


def render() -> str:
    """Return the page."""
    parts = [HEAD, *_options()]
    for heading, text, names in PARTS:
        parts += [f"## {heading}", *([text] if text else []), *(part for name in names for part in _shown(name))]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _options() -> Iterator[str]:
    yield "## Options of a run"
    yield "Of `sw.run`, `sw.iterate`, `sw.imap` and `sw.mend`. A value that cannot be is a `GraphError` before anything starts."
    yield _table(options_of(RunOptions), get_type_hints(RunOptions))
    yield "## Options of a handler"
    yield "Of `map`, `filter`, `flat_map` and `map_batches` of a stream, `map` of a keyed stream, and `sw.imap`."
    yield _table([*options_of(NodeNaming, Options), *(one for one in fields(Options) if not one.metadata["of_all"])],
                 get_type_hints(Options) | get_type_hints(NodeNaming))  # fmt: skip


def _table(listed: Iterable[Field[Any]], hints: dict[str, Any]) -> str:
    rows = ["| name | type | default | meaning |", "|---|---|---|---|"]
    for one in listed:
        default = f"`{default_of(one)}`" if default_of(one) else ""
        rows.append(f"| `{one.name}` | {_code(_type(one, hints))} | {default} | {_cell(meaning_of(one))} |")
    return "\n".join(rows)


def _type(one: Field[Any], hints: dict[str, Any]) -> str:
    """Return a type as it is written, but the values of a `Literal` in place of its name."""
    hint = hints[one.name]
    return " | ".join(repr(value) for value in get_args(hint)) if get_origin(hint) is Literal else type_of(one)


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _shown(name: str) -> Iterator[str]:
    subject = getattr(sw, name)
    yield f"### `sw.{name}`"
    if inspect.isclass(subject):
        yield from _shown_class(name, subject)
    else:
        yield _signature(f"sw.{name}", subject)
        yield _prose(subject)


def _shown_class(name: str, cls: type) -> Iterator[str]:
    yield _prose(cls)
    if issubclass(cls, SluicewayError) and cls is not SluicewayError:
        base = next(base for base in cls.__mro__[1:] if base.__name__ in sw.__all__)
        yield f"It is a `sw.{base.__name__}`. {_attributes(cls)}".rstrip()
    if is_dataclass(cls) and any(meaning_of(one) for one in fields(cls)):
        yield _table(fields(cls), get_type_hints(cls))
    for method, function in vars(cls).items():
        public = not method.startswith("_") or (method == "__init__" and name == "Graph")
        if public and inspect.isfunction(function) and function.__doc__:
            yield _signature(method, function)
            yield _prose(function)


def _attributes(cls: type) -> str:
    """Return what a base class that is not public says of its attributes."""
    told = (inspect.getdoc(base) or "" for base in cls.__mro__ if base.__name__ not in sw.__all__)
    return next((text[text.index("Attributes: ") :] for text in told if "Attributes: " in text), "")


def _signature(called: str, function: Any) -> str:
    """Return a call as it is written; options that have a table are one `**options`."""
    signature = inspect.signature(function)
    tabled = {one.name for one in options_of(RunOptions, NodeNaming, Options)}
    shown, left_out, star = [], False, False
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and one.name in tabled and len(signature.parameters) > 8:
            left_out = True
            continue
        if one.kind is one.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        shown.append(_parameter(one))
        if one.kind is one.POSITIONAL_ONLY and not _follows_positional(signature, one.name):
            shown.append("/")
    text = ", ".join([*shown, *(["**options"] if left_out else [])])
    returned = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    if len(called) + len(text) + len(returned) > 110:
        text = "\n    " + text.replace(", *, ", ", *,\n    ") + "\n"
    return f"```python\n{called}({text}){returned}\n```"


def _follows_positional(signature: inspect.Signature, name: str) -> bool:
    names = [one.name for one in signature.parameters.values() if one.kind is one.POSITIONAL_ONLY]
    return names[-1] != name


def _parameter(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    annotation = "" if one.annotation is one.empty else f": {one.annotation}"
    default = "" if one.default is one.empty else f" = {one.default!r}"
    return f"{stars}{one.name}{annotation}{default}"


def _prose(subject: Any) -> str:
    """Return a docstring without the list of fields or options, which the page shows as a table."""
    return re.split(r"\n\n(?:Fields|Options):\n", inspect.getdoc(subject) or "")[0]


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
