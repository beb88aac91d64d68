"""Classes of events that users keep in states and journals: a stored one names the package, but none of its modules.

So a module may be moved or renamed, and what an older run has stored is still found. What is public is not decided here:
the root of the package has to give the class under its name.
"""

from __future__ import annotations

from typing import TypeVar

_AnyType = TypeVar("_AnyType", bound=type)


def public(cls: _AnyType) -> _AnyType:
    """Return a class that says it is from the root of the package, where pickle then finds it.

    Put it above other decorators, which look for names in the module in which the class was written.
    """
    cls.__module__ = __name__.partition(".")[0]
    return cls
