"""The laws of the source tree: what may import what, what a module looks like, what is packaged."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from sluiceway.engine.local.transport import messages as wire
from sluiceway.nodes.program.kinds import NodeKind

ROOT = Path(__file__).parents[2]
#: Each folder may import from itself and from those before it.
LAYERS = ("nodes", "graphs", "engine")
PACKAGE = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
MODULES = [path for path in PACKAGE if path.name != "__init__.py"]

#: For each room (a folder, or a file that joins rooms) the rooms that it may import from. No other arrow is allowed.
ALLOWED: dict[str, list[str]] = json.loads(Path(__file__).with_name("allowed_imports.json").read_text())
MOST_FILES = 16

MOST_LINES = 400

#: What would let a decision depend on more than what it is given (law 9).
IMPURE = {
    "asyncio", "multiprocessing", "os", "random", "select", "selectors", "signal", "socket", "subprocess",
    "threading", "time", "zmq",
}  # fmt: skip
#: Rooms whose every file decides and does nothing else.
PURE_ROOMS = ("engine/core", "nodes/dispatch", "nodes/ordering")
DECISIONS = (
    *(name for room in PURE_ROOMS for name in sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / room).glob("*.py"))),
    "nodes/program/column.py",
    "nodes/program/program.py",
)
SOCKET_OWNERS = {
    "engine/local/children/connection.py",
    "engine/local/children/source_process.py",
    "engine/local/transport/link.py",
    "engine/local/transport/router.py",
}
#: Beside them only the command that runs the benches of a checkout starts a process, none of a run's.
PROCESS_OWNERS = {
    "engine/cli/bench.py",
    "engine/local/processes/bootstrap.py",
    "engine/local/processes/starters.py",
}
#: What belongs to processes on one machine: how they are started, how they talk, what memory they share.
MACHINERY = {"mmap", "multiprocessing", "psutil", "socket", "subprocess", "zmq"}
#: Beside `engine/local`: the command that runs benches, connectors that serve HTTP, name this host or check a database's
#: connection, and a lock file that names this host. The hub's wakeup is a pipe and needs none of these.
MACHINERY_ELSEWHERE = {
    "engine/cli/bench.py",
    "engine/page/sampler.py",  # the memory of the workers, by their pids
    "engine/page/server.py",
    "nodes/connectors/http/webhook_server.py",
    "nodes/connectors/redis/lock.py",
    "nodes/connectors/sql/postgres_session.py",
    "nodes/files/file_lock.py",
}
#: Functions of `os` by which code knows the process that it runs in, and its forks.
PROCESS_CALLS = {"fork", "forkpty", "getpid", "getppid", "kill", "killpg", "register_at_fork", "_exit", "waitpid"}
#: Beside `engine/local`: the room that tells forks, and whoever writes the holder of a lock or a connection for people.
PROCESS_CALLS_ELSEWHERE = {
    "engine/interpreter/forks.py",
    "nodes/connectors/redis/lock.py",
    "nodes/connectors/sql/postgres_session.py",
    "nodes/files/file_lock.py",
}
#: Who speaks to a person at a terminal.
SPEAKERS = {"engine/cli/main.py", "engine/cli/demo.py"}

#: Folders of one machine; written so that this file is not found by it.
_MACHINE = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|work|opt)/\w")
_TEXTS = {".py", ".md", ".toml", ".json", ".yml", ".yaml", ".txt", ".csv", ".svg", ""}
_MADE = {"build", "dist", "out", "__pycache__"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=name_of(path))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Return every module that a file imports, also inside functions, under its full name, with the line."""
    package = ["sluiceway", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            yield ".".join(base), node.lineno
            # A name that is imported from a package may be a module of it.
            yield from ((".".join([*base, alias.name]), node.lineno) for alias in node.names)


def test_the_tree_is_found() -> None:
    assert len(MODULES) > 50
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    """nodes <- graphs <- engine <- the root, the tests and the benchmarks."""
    below = LAYERS[: LAYERS.index(layer) + 1]
    wrong = []
    for path in sorted((ROOT / layer).rglob("*.py")):
        for module, line in imported(path):
            parts = module.split(".")
            if parts[0] == "sluiceway" and (len(parts) > 1 and parts[1] not in below):
                wrong.append(f"{name_of(path)}:{line} imports {module}")
    assert wrong == []


def room_of(name: str) -> str:
    """Return the room of a file: its folder, or the file itself where the table names it."""
    return name if name in ALLOWED else name.rpartition("/")[0]


@cache
def arrows() -> dict[str, set[str]]:
    """Return which files of the package each file imports, also inside functions."""
    found: dict[str, set[str]] = {name_of(path): set() for path in PACKAGE}
    for path in PACKAGE:
        for module, _ in imported(path):
            stem = module.removeprefix("sluiceway").lstrip(".").replace(".", "/")
            found[name_of(path)] |= {name for name in (f"{stem}.py", f"{stem}/__init__.py") if name in found}
    return found


def test_imports_between_rooms_are_those_of_the_table() -> None:
    wrong = sorted(
        f"{user} imports {used}"
        for user, names in arrows().items()
        for used in names
        if not used.endswith("__init__.py")
        and room_of(user) != room_of(used)
        and room_of(used) not in ALLOWED.get(room_of(user), ())
    )
    assert wrong == []


def test_the_table_runs_one_way() -> None:
    """Whoever follows the arrows of the table never comes back to where he was."""
    assert circles({room: set(used) for room, used in ALLOWED.items()}) == []


def test_the_table_names_no_arrow_that_is_not_there() -> None:
    there = {(room_of(user), room_of(used)) for user, names in arrows().items() for used in names}
    assert [(room, used) for room, names in ALLOWED.items() for used in names if (room, used) not in there] == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles({user: names - {user} for user, names in arrows().items()}) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return every cycle that a walk through the graph meets, as the path that leads back to its beginning."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(at: str, path: list[str]) -> None:
        if at in path:
            found.append([*path[path.index(at) :], at])
        elif at not in done:
            for following in sorted(graph.get(at, ())):
                walk(following, [*path, at])
            done.add(at)

    for start in sorted(graph):
        walk(start, [])
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]


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


def test_no_two_public_classes_of_the_engine_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in PACKAGE:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and path.parts[-2] != "graphs":
                homes.setdefault(node.name, []).append(name_of(path))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


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


def test_the_package_imports_itself_relatively() -> None:
    wrong = []
    for path in PACKAGE:
        for node in ast.walk(tree_of(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [f"{name_of(path)}:{node.lineno}" for name in names if name.split(".")[0] == "sluiceway"]
    assert wrong == []


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_are_pure(name: str) -> None:
    assert {module.split(".")[0] for module, _ in imported(ROOT / name)} & IMPURE == set()


@pytest.mark.parametrize(
    ("modules", "owners"),
    [({"zmq"}, SOCKET_OWNERS), ({"subprocess", "multiprocessing"}, PROCESS_OWNERS)],
    ids=["sockets", "processes"],
)
def test_sockets_and_processes_have_their_owners(modules: set[str], owners: set[str]) -> None:
    users = {name_of(path) for path in PACKAGE if {m.split(".")[0] for m, _ in imported(path)} & modules}
    assert users == owners


def test_only_the_local_backend_knows_sockets_processes_and_shared_memory() -> None:
    users = {name_of(path) for path in PACKAGE if {m.split(".")[0] for m, _ in imported(path)} & MACHINERY}
    assert {name for name in users if not name.startswith("engine/local/")} == MACHINERY_ELSEWHERE


def test_only_the_local_backend_and_one_room_know_the_process_that_they_run_in() -> None:
    users = {
        name_of(path)
        for path in PACKAGE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr in PROCESS_CALLS
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    users |= {
        name_of(path)
        for path in PACKAGE
        for module, _ in imported(path)
        if module in {f"os.{call}" for call in PROCESS_CALLS}
    }
    assert {name for name in users if not name.startswith("engine/local/")} == PROCESS_CALLS_ELSEWHERE


def test_only_runners_make_the_backend_of_children() -> None:
    """And only the cluster, whose decks are stations with children of their own, uses more of it."""
    users = {user for user, names in arrows().items() if any(name.startswith("engine/local/") for name in names)}
    others = {user for user in users if not user.startswith(("engine/local/", "engine/cluster/"))}
    assert others == {"engine/run.py", "engine/runners/auto.py", "engine/runners/processes.py"}
    used = {name for user in others for name in arrows()[user] if name.startswith("engine/local/")}
    assert used == {"engine/local/backend.py", "engine/local/site.py"}


def test_only_the_cluster_knows_ray() -> None:
    users = {name_of(path) for path in PACKAGE if "ray" in {module.split(".")[0] for module, _ in imported(path)}}
    assert users
    assert {name for name in users if not name.startswith("engine/cluster/")} == set()


def test_kinds_with_handlers_are_named_in_their_own_places_alone() -> None:
    """Whoever else treats one in its own way asks for a trait, so that the next kind of that sort needs no change there."""
    own = {"nodes/program/steps.py", "graphs/builder/streams.py"}  # beside their row in the table
    # What follows a key becomes a map.
    names = {kind.name for kind in NodeKind if kind.traits.has_handler} - {"MAP"}
    users = {
        name_of(path)
        for path in PACKAGE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr in names and getattr(node.value, "id", "") == "NodeKind"
    }
    assert users == own


def test_only_the_zygote_forks() -> None:
    forks = {
        name_of(path)
        for path in PACKAGE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("fork", "forkpty")
    }
    assert forks == {"engine/local/processes/zygote.py"}


def test_every_module_has_a_head() -> None:
    headless = [name_of(path) for path in [ROOT / "__init__.py", *PACKAGE] if not ast.get_docstring(tree_of(path))]
    assert headless == []


def test_every_module_has_its_annotations_as_text() -> None:
    def has_it(path: Path) -> bool:
        return any(module == "__future__" for module, _ in imported(path))

    assert [name_of(path) for path in MODULES if not has_it(path)] == []


def test_files_stay_small() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in PACKAGE}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_nothing_prints_but_what_speaks_to_a_person() -> None:
    wrong = []
    for path in PACKAGE:
        if name_of(path) not in SPEAKERS:
            wrong += [f"{name_of(path)}:{line}" for line in prints(path)]
    assert wrong == []


def prints(path: Path) -> Iterator[int]:
    """Return the lines that print to the screen; a ready-made graph may, in the `main` that a shell calls."""
    tree = tree_of(path)
    mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    allowed = {id(node) for main in mains for node in ast.walk(main)} if path.parent.name == "graphs" else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            to_a_stream = any(keyword.arg == "file" for keyword in node.keywords)
            if not to_a_stream and id(node) not in allowed:
                yield node.lineno


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


def test_what_few_runs_need_is_imported_by_those_alone() -> None:
    """Each takes as long to import as a good part of sluiceway itself."""
    script = (
        "import sys, sluiceway as sw; sw.run, sw.imap, sw.Graph, sw.lines;"
        "print(*sorted({'asyncio', 'tqdm', 'concurrent.futures', 'multiprocessing', 'numpy', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
