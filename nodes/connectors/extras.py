"""Imports of optional packages: the ones that only some connectors need.

Decides what the error says where such a package is missing. It does not know which connectors there are. The texts
name a clone, because sluiceway is not on a package index.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..errors import GraphError

#: Packages whose module has another name.
_PACKAGE_OF = {"confluent_kafka": "confluent-kafka"}


def need(module: str, extra: str, maker: str) -> ModuleType:
    """Import and return `module`, which the extra `extra` installs, for the connector that the user made with `maker`.

    Raises `GraphError` if it is not installed. An installed module that fails to import raises its own error.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # the package is there and misses something of its own
        package = _PACKAGE_OF.get(top, top)
        raise GraphError(
            f"cannot make {maker}: {package} is not installed; in a clone of sluiceway run pip install '.[{extra}]'"
        ) from None
