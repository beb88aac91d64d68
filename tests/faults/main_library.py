"""A library of the script main_script.py."""

from __future__ import annotations

KNOWN: dict[str, int] = {}
later = None


def register(name: str, value: int) -> None:
    KNOWN[name] = value


class _Missing:
    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()
