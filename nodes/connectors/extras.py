"""The packages that only some connectors need: brought in when such a connector is made, refused helpfully without."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..errors import GraphError

#: Modules whose package to install has another name.
_PACKAGE_OF = {"confluent_kafka": "confluent-kafka", "psycopg": "psycopg[binary]"}


def need(module: str, extra: str, maker: str) -> ModuleType:
    """Import `module`, which the extra `extra` installs, for the connector that the user made with `maker`.

    Raises `GraphError` where it is not installed. A module that is there but fails to import raises its own error.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # the package is there and misses something of its own
        package = _PACKAGE_OF.get(top, top)
        raise GraphError(f"cannot make {maker}: {package} is not installed; install sluiceway[{extra}]") from None
