"""The laws of files and folders: names, heads, lengths, what is packaged, what the map shows."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from sluiceway.engine.local.transport import messages as wire
from source_tree import MODULES, PACKAGE, ROOT, imported, name_of, tree_of

MOST_FILES = 16
MOST_LINES = 400

#: Folders of one machine; written so that this file is not found by it.
_MACHINE = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|work|opt)/\w")
_TEXTS = {".py", ".md", ".toml", ".json", ".yml", ".yaml", ".txt", ".csv", ".svg", ""}
_MADE = {"build", "dist", "out", "__pycache__"}

#: Private words of the past, and docstrings that do not say what is returned. The field's words stand in CONTRIBUTING.md.
_PRIVATE_WORDS = re.compile(
    r"\b(crew|bears?|strike|knife|pile|enrol\w*|eldest|whom|penstock)\b|so many|let go of|in other hands|stands? at"
    r"|\"\"\"(?:Give|Say) "
)


def test_the_words_are_those_of_the_field() -> None:
    found = [
        f"{name_of(path)}:{number}: {match[0]}"
        for path in PACKAGE
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in _PRIVATE_WORDS.finditer(line)
    ]
    assert found == []


def test_rooms_stay_small() -> None:
    rooms = [path.parent.relative_to(ROOT).as_posix() for path in MODULES]
    assert {room: n for room in set(rooms) if (n := rooms.count(room)) > MOST_FILES} == {}


def test_every_room_says_what_it_decides() -> None:
    heads = {name_of(path): ast.get_docstring(tree_of(path)) or "" for path in PACKAGE if path.name == "__init__.py"}
    assert [name for name, head in heads.items() if len(head.splitlines()) < 2] == []


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports each as a top module: of two with one name it finds only one."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_unit_tests_stand_in_the_room_of_what_they_test() -> None:
    folders = {path.parent.relative_to(ROOT / "tests" / "unit").as_posix() for path in (ROOT / "tests/unit").rglob("test_*.py")}
    assert sorted(folder for folder in folders if folder != "." and not (ROOT / folder / "__init__.py").exists()) == []


def test_every_module_has_a_head() -> None:
    headless = [name_of(path) for path in [ROOT / "__init__.py", *PACKAGE] if not ast.get_docstring(tree_of(path))]
    assert headless == []


def test_every_module_has_its_annotations_as_text() -> None:
    def has_it(path: Path) -> bool:
        return any(module == "__future__" for module, _ in imported(path))

    assert [name_of(path) for path in MODULES if not has_it(path)] == []


def test_files_stay_small() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in [*PACKAGE, *(ROOT / "tests").rglob("*.py")]}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_the_top_level_holds_no_code_but_the_public_names() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


def test_every_folder_with_code_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in PACKAGE}
    packages = set(project["tool"]["setuptools"]["packages"])
    assert packages == {"sluiceway", *(f"sluiceway.{folder}" for folder in folders)}


def test_the_map_shows_every_room() -> None:
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in PACKAGE}
    shown = set(re.findall(r"^(?:\| )?`?((?:nodes|graphs|engine)(?:/\w+)*)/`? ", (ROOT / "ARCHITECTURE.md").read_text(), re.M))
    assert shown == rooms


def test_the_map_shows_every_message() -> None:
    rows = re.findall(r"^\| ([A-Z, ]+) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    kinds = [kind for row in rows for kind in row.split(", ")]
    assert set(wire.Kind.__members__) <= set(kinds)


def test_no_path_of_a_machine_is_mentioned() -> None:
    found = []
    for path in texts(ROOT):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if _MACHINE.search(line):
                found.append(f"{name_of(path)}:{number}")
    assert found == []


def texts(folder: Path) -> Iterator[Path]:
    """Return the project's text files, without what tools have made."""
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name != ".ci"
        if path.is_symlink() or hidden or path.name in _MADE or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from texts(path)
        elif path.suffix in _TEXTS:
            yield path
