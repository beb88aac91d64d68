"""The identity of a run, and how it is compared when the run is resumed.

Decides what must be unchanged (graph, nodes, states, settings of sources and sinks), what may change and is logged (the
code of handlers), and the texts for both. Where the identity is stored is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...nodes.errors import CheckpointError

#: What may change on resume: the code of the nodes.
_CODE = "code"
#: The settings of sources and sinks, by the name of their node.
_SETTINGS = "settings"

#: Whether all kept answers are kept.
_KEEP = "keep"


def read_identity(text: str) -> dict[str, Any]:
    """Return the identity of a run; raises `ValueError` for any other text."""
    identity = json.loads(text)
    if not isinstance(identity, dict) or not identity.keys() >= {"graph", "nodes"}:
        raise ValueError("what it says of the run cannot be read")
    return identity


def compare(where: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` if a run differs from the one that the store `where` knows, except in its code."""
    given = json.loads(json.dumps(given))
    for key in (*known, *given):
        if key == _KEEP and known.get(key) != given.get(key):
            raise CheckpointError(
                f"cannot resume from {where}: the run was begun {_kept(known)}, and goes on {_kept(given)}; say keep= as it"
                " began (a mend needs all answers from the beginning), or begin afresh with resume='never'"
            )
        if key == _SETTINGS:
            _compare_settings(where, known.get(key, {}), given.get(key, {}))
        elif key != _CODE and known.get(key) != given.get(key):
            before, now = _differing(known.get(key), given.get(key))
            raise CheckpointError(
                f"cannot resume from {where}: its {key} is {_short(before)}, this run's is {_short(now)}; run the graph as"
                " it was, or begin afresh with resume='never'"
            )


def _compare_settings(where: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` if the settings of a source or sink have changed since the run began."""
    for node, before in known.items():
        now = given.get(node, {})
        changed = [
            f"{name} is {_short(now.get(name))}, it was {_short(before.get(name))}"
            for name in {**before, **now}
            if now.get(name) != before.get(name)
        ]
        if changed:
            raise CheckpointError(
                f"cannot resume from {where}: node {node!r} has other settings than it began with"
                f" ({', '.join(changed)}); set it as it was, or begin afresh with resume='never'"
            )


def code_changes(where: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return what code changed, as far as that can be compared; raises `CheckpointError` if it computes keys."""
    old, new = known.get(_CODE), given.get(_CODE)
    if old is None or new is None:
        return []
    if old["python"] != new["python"]:
        return [f"Python changed from {old['python']} to {new['python']}, so that code cannot be compared,"]
    nodes, before = new["nodes"], old["nodes"]
    changed = [name for name in {**nodes, **before} if nodes.get(name) != before.get(name)]
    for name in changed:
        if name in new.get("keys", ()):
            raise CheckpointError(
                f"cannot resume from {where}: node {name!r} changed the code that gives its keys, so states may belong to keys"
                " that it no longer gives; run it as it was, or begin afresh with resume='never'"
            )
    return [f"node {name!r} changed its code" for name in changed]


def _differing(known: Any, given: Any) -> tuple[Any, Any]:
    """Return what each of two lists has alone, or both lists if only their order differs; other values as they are."""
    if not isinstance(known, list) or not isinstance(given, list):
        return known, given
    before, now = [one for one in known if one not in given], [one for one in given if one not in known]
    return (before, now) if before or now else (known, given)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 300 else text[:297] + "..."


def _kept(identity: Mapping[str, Any]) -> str:
    return f"with keep={identity.get(_KEEP, 'above')!r}"
