"""The files of the page: complete in the package, and nothing of them is elsewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from sluiceway.engine.page.assets import ASSETS, read_assets

ROOT = Path(__file__).parents[4]
STATIC = ROOT / "engine" / "page" / "static"


def test_every_file_is_shown_and_packaged() -> None:
    files = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert files == {*ASSETS.values(), "uplot/LICENSE"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["sluiceway.engine.page"] == ["static/*", "static/uplot/*"]
    assert "engine/page/static/uplot/LICENSE" in project["project"]["license-files"]


def test_nothing_is_loaded_from_elsewhere() -> None:
    for path, (content, _) in read_assets().items():
        found = set(re.findall(r"""(?:https?:)?//[\w.-]+\.\w+""", content.decode()))
        assert found <= {"http://www.w3.org", "https://github.com"}, path


def test_every_name_in_the_page_is_a_path_of_it() -> None:
    text = (STATIC / "index.html").read_text()
    named = set(re.findall(r'(?:href|src)="([^"]+)"', text)) - {"metrics", "health"}
    assert named == {path[1:] for path in ASSETS} - {"", "graph.js", "charts.js", "format.js"}
    for script in ("page.js", "graph.js", "charts.js"):
        assert set(re.findall(r'from "\./([\w.]+)"', (STATIC / script).read_text())) <= {path[1:] for path in ASSETS}


def test_texts_of_the_run_never_become_markup() -> None:
    for script in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.read_text())
