"""The files of the page, read from the package: the browser needs nothing from elsewhere.

Decides under which path each of them is, and of what type it is.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("static")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: The path of each file.
ASSETS = {
    "/": "index.html",
    "/page.css": "page.css",
    "/page.js": "page.js",
    "/graph.js": "graph.js",
    "/charts.js": "charts.js",
    "/format.js": "format.js",
    "/icon.svg": "icon.svg",
    "/uplot.js": "uplot/uPlot.iife.min.js",
    "/uplot.css": "uplot/uPlot.min.css",
}


def read_assets() -> dict[str, tuple[bytes, str]]:
    """Return the content and the type of each file by its path."""
    return {path: ((_FOLDER / name).read_bytes(), _TYPES[Path(name).suffix]) for path, name in ASSETS.items()}
