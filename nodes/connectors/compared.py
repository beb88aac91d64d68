"""What the connectors say of themselves: a server's address, secrets in a form to compare, and names of nodes.

Decides that a password is in neither, and that a text which may hold one is compared by its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def digest(text: str) -> str | None:
    """Return a short digest of a text that may hold a secret, `None` for an empty one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] if text else None


def digests(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the digest of every value's `repr`."""
    return {str(name): digest(repr(value)) for name, value in values.items()}


def address(url: str) -> str:
    """Return scheme, host, port and path of a URL, without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def last_part(url: str) -> str:
    """Return the last part of a URL's path, or its host: a name for its node."""
    parts = urlsplit(url)
    return parts.path.rstrip("/").rpartition("/")[2] or parts.hostname or ""
