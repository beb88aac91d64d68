"""The header `Link` of an answer, by RFC 8288.

Decides which url is the next page: the target of the first link with the relation `next` whose context is the page
itself. Follows the parsing algorithm of the RFC's appendix B, but what is no link header is an error there, for the
end of the list would be the other way to read it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urldefrag, urljoin

_LINK = re.compile(r"[\s,]*<([^>]*)>")
#: A parameter: its name, then a quoted string or what stands there up to the next separator.
_PARAM = re.compile(r'[ \t]*(?:;[ \t]*)+(?:([^\s=;,]+)[ \t]*(?:=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"<]*)))?)?')


class HeaderLink(NamedTuple):
    """One link: its target as it stands there, and the first value of each parameter by its name in lower case."""

    target: str
    params: dict[str, str]


def links_of(header: str) -> Iterator[HeaderLink]:
    """Return the links of a header, joined by commas where it came several times; raises `ValueError` for anything else."""
    at = 0
    while header[at:].strip(" \t,"):
        link = _LINK.match(header, at)
        if link is None:
            raise ValueError("not a Link header")
        at = link.end()
        params: dict[str, str] = {}
        while (param := _PARAM.match(header, at)) is not None:
            at = param.end()
            name, quoted, bare = param.groups()
            if name is not None:
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else (bare or "").strip(" \t")
                params.setdefault(name.lower(), value)
        if not re.match(r"[ \t]*(?:,|$)", header[at:]):
            raise ValueError("not a Link header")
        yield HeaderLink(link[1].strip(), params)


def next_link(header: str, page: str) -> str | None:
    """Return the whole url of the page behind `page`, or `None` if the header names none; raises `ValueError`."""
    found = None
    for link in links_of(header):
        relations = link.params.get("rel", "").strip("'").lower().split()
        of_page = urldefrag(urljoin(page, link.params.get("anchor", ""))).url == urldefrag(page).url
        if found is None and "next" in relations and of_page:
            found = urljoin(page, link.target)
    return found
