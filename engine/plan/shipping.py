"""Shipping: handlers and sources packed for the processes that run them, once per run.

Decides that what cannot be packed is refused before anything starts, and names what is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...nodes.errors import GraphError, SluicewayError, describe, kind_of
from ...nodes.given import refuse_unrun
from ...nodes.handlers import PerWorker
from ..codec.equality import are_same
from ..codec.pickling import dumps, importing, loads
from ..interpreter.settings import read_settings
from .plan import Plan
from .sequences import Sequences

Setup = Callable[[], object]


def ship(plan: Plan, setup: Setup | None = None, *, in_caller: bool = False) -> dict[str, bytes]:
    """Pack every pool's handlers (`"pool0"`...) and every remote source (`"source0"`...), each with the user's `setup`.

    Both are in one pickle, so that what `setup` changes is what they refer to. Raises `GraphError` for one that cannot be
    packed, naming the node and what it captures; and, unless the run begins `in_caller`, for a handler that captures what
    hands out one value after another, which every worker would begin anew.
    """
    packed = {}
    if setup is not None:
        _dump(setup, [("setup=", setup)], "function", "the processes of the run")
    for at, pool in enumerate(plan.pools):
        names = [step.node for step in plan.wiring.pools[at].program.steps]
        named = list(zip(names, pool.handlers, strict=True))
        sequences = Sequences()
        packed[f"pool{at}"] = _dump((setup, pool.handlers), named, "handler", "workers", sequences.look)
        if sequences.found and not in_caller and not pool.ordered:
            raise _cloned_error(named)
    for at, source in enumerate(plan.sources):
        if source.remote:
            subject = (source.node.name, source.node.subject, plan.key if len(plan.sources) > 1 else None)
            packed[f"source{at}"] = _dump((setup, subject), [(source.node.name, source.node.subject)], "source", "its process")
    return packed


def pack_handlers(plan: Plan, setup: Setup | None) -> dict[str, bytes]:
    """Pack every pool's handlers as they are now, as `ship` does. Raises whatever pickle or the handlers raise."""
    return {f"pool{at}": dumps((setup, pool.handlers)) for at, pool in enumerate(plan.pools)}


def changed_since(plan: Plan, setup: Setup | None, earlier: Mapping[str, bytes]) -> str | None:
    """Return what has changed in the handlers since they were packed, as part of a sentence, or `None` if nothing has."""
    for at, pool in enumerate(plan.pools):
        packed = earlier[f"pool{at}"]
        try:
            if dumps((setup, pool.handlers)) == packed:
                continue
            _, before = loads(packed)
        except Exception:  # what is changed while it is packed, or can no longer be packed or unpacked
            before = [None] * len(pool.handlers)
        names = [step.node for step in plan.wiring.pools[at].program.steps]
        for node, subject, old in zip(names, pool.handlers, before, strict=True):
            if not are_same(subject, old):
                part = _changed_part(subject, old)
                return f"the handler {node!r} captures {part or 'something'}, which has changed since the run began"
    return None


def _changed_part(subject: Any, old: Any) -> str | None:
    """Return the name of the first thing that a handler captures and that is not what it was."""
    if old is None:
        return None
    parts = zip(_captured(subject), _captured(old), strict=False)
    return next((name for (name, value), (_, other) in parts if not are_same(value, other)), None)


def refuse_inside_import() -> None:
    """Raise `GraphError` in a process of a run that imports user code: a run begun there would import it again, and so on."""
    module = importing()
    if module is not None:
        raise GraphError(
            f"a run cannot begin while a process of another run imports module {module!r} for its handlers or events:"
            " the run would import it again, without end; put the call under `if __name__ == \"__main__\":`"
        )


def set_up_caller(plan: Plan, setup: Setup | None) -> None:
    """Call the user's `setup` in this process, then pack the settings that the run's processes take over from it.

    Called in the caller's thread when the run begins. Raises `SluicewayError` for whatever `setup` raises.
    """
    if setup is not None:
        try:
            refuse_unrun(setup(), "setup=", "use a plain def")
        except Exception as error:
            raise SluicewayError(
                f"setup= raised in the calling process: {describe(error)}; no event was read; correct that function"
            ) from error
    plan.shipped["settings"] = read_settings()


def _cloned_error(named: list[tuple[str, Any]]) -> GraphError:
    """Return the error for handlers that capture what hands out one value after another, naming it where it can be seen."""
    for node, subject in named:
        if _has_sequence(subject):
            part = next((f"{name}, {kind_of(it)}" for name, it in _captured(subject) if _has_sequence(it)), kind_of(subject))
            return GraphError(
                f"handler {node!r} cannot be sent to workers: it captures {part}, which hands out one value after"
                " another, and a copy in each worker would hand out the same ones; make it in a handler class, which is"
                " built once in each worker, or, for random numbers, use the functions of the module, which every worker seeds"
            )
    raise AssertionError("none of the handlers captures one")


def _has_sequence(subject: Any) -> bool:
    sequences = Sequences()
    try:
        dumps(subject, sequences.look)
    except Exception:  # it can be packed only together with the others
        return False
    return sequences.found


def _dump(
    subject: Any, named: list[tuple[str, Any]], what: str, where: str, look: Callable[[Any], None] | None = None
) -> bytes:
    try:
        return dumps(subject, look)
    except Exception as error:  # whatever a __reduce__ of the user's raises
        for node, part in named:
            reason = _why_not(part)
            if reason is not None:
                raise GraphError(
                    f"{what} {node!r} cannot be sent to {where}: {reason}; build it inside the function, or use a"
                    " handler class that builds it once in each worker"
                ) from error
        raise GraphError(f"a {what} cannot be sent to {where}: {error}") from error


def _why_not(subject: Any) -> str | None:
    """Return what keeps a subject from being packed, as precisely as can be seen, or `None` if nothing does."""
    error = _refusal(subject)
    if error is None:
        return None
    for name, part in _captured(subject):
        inner = _refusal(part)
        if inner is not None:
            deeper = next((f" (its {n})" for n, p in _captured(part) if _refusal(p) is not None), "")
            return f"it captures {name}, {kind_of(part)}{deeper}, which cannot be pickled"
    return f"{kind_of(subject)} cannot be pickled ({type(error).__name__}: {error})"


def _refusal(value: Any) -> Exception | None:
    try:
        dumps(value)
    except Exception as error:  # the user's own code may raise anything here
        return error
    return None


def _captured(subject: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function, partial, method or object refers to, each with the name by which a user knows it."""
    if isinstance(subject, PerWorker):
        yield "the class", subject.cls
        for at, value in enumerate(subject.args):
            yield f"argument {at}", value
        for key, value in subject.kwargs.items():
            yield f"argument {key!r}", value
        return
    owner = getattr(subject, "__self__", None)
    if owner is not None and not isinstance(owner, type):
        yield "its object", owner
    function = getattr(subject, "__func__", subject)
    code = getattr(function, "__code__", None)
    if code is not None:
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield repr(name), cell.cell_contents
            except ValueError:
                continue  # not bound yet
        for name in code.co_names:
            if name in function.__globals__:
                yield repr(name), function.__globals__[name]
        for at, value in enumerate(function.__defaults__ or ()):
            yield f"default {at}", value
        return
    if hasattr(subject, "func") and hasattr(subject, "keywords"):
        yield "its function", subject.func
        for at, value in enumerate(subject.args):
            yield f"argument {at}", value
        for key, value in subject.keywords.items():
            yield f"argument {key!r}", value
        return
    for name, value in getattr(subject, "__dict__", {}).items():
        yield f"attribute {name!r}", value
