"""The laws of the source tree: what may import what, and who may do what."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from sluiceway.nodes.program.kinds import NodeKind
from source_tree import LAYERS, MODULES, PACKAGE, ROOT, imported, name_of, tree_of

#: For each room (a folder, or a file that joins rooms) the rooms that it may import from. No other arrow is allowed.
ALLOWED: dict[str, list[str]] = json.loads(Path(__file__).with_name("allowed_imports.json").read_text())


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


def test_no_two_public_classes_of_the_engine_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in PACKAGE:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and path.parts[-2] != "graphs":
                homes.setdefault(node.name, []).append(name_of(path))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


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


def test_what_few_runs_need_is_imported_by_those_alone() -> None:
    """Each takes as long to import as a good part of sluiceway itself."""
    script = (
        "import sys, sluiceway as sw; sw.run, sw.imap, sw.Graph, sw.lines;"
        "print(*sorted({'asyncio', 'tqdm', 'concurrent.futures', 'multiprocessing', 'numpy', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
