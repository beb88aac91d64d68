"""Workers that have a device or cores of their own: each has exactly one seat at any moment, also under kills."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sluiceway as sw
from conftest import observe
from fault_graphs import Strikes, die, small, until


class OnDevice:
    """Holds its device as long as it lives, by a file that no other worker may have at the same time."""

    def __init__(self, folder: str, strikes: Strikes | None, limit: int = 1, together: tuple[int, int] | None = None) -> None:
        self._folder, self._strikes, self._together = folder, strikes, together
        self.device = os.environ["CUDA_VISIBLE_DEVICES"]
        for at in range(limit):
            path = Path(folder) / f"held-{self.device}-{at}"
            try:
                holder = int(path.read_text() or 0)
            except (FileNotFoundError, ValueError):
                holder = 0
            if not (holder and _lives(holder)):
                path.write_text(str(os.getpid()))
                break
        else:
            (Path(folder) / "doubled").touch()
        with open(Path(folder) / "seats", "a") as seats:
            seats.write(f"{sw.current().worker if _has_current() else '-'} {self.device}\n")

    def __call__(self, n: int) -> tuple[int, str]:
        if self._strikes is not None and n % 100 == 50 and self._strikes.take():
            die("kill")
        if self._together is not None and n in self._together:
            # The first two numbers wait for each other: before the first answer a worker has one number, so each is in one.
            (Path(self._folder) / f"begun-{n}").touch()
            until(lambda: all((Path(self._folder) / f"begun-{one}").exists() for one in self._together), 60)
        return n, self.device


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _has_current() -> bool:
    try:
        sw.current()
    except (LookupError, RuntimeError):
        return False
    return True


def test_every_device_has_exactly_its_workers_under_kills(tmp_path: Path) -> None:
    strikes = Strikes(tmp_path, 8)
    handler = sw.per_worker(OnDevice, str(tmp_path), strikes, together=(0, 1))
    seen = observe(
        lambda seen: small(seen, range(2000), handler, devices=["cuda:3", "cuda:5"]), max_deaths=None
    )
    assert seen.error is None
    assert [event[0] for event in seen.events("out")] == list(range(2000))
    assert {event[1] for event in seen.events("out")} == {"3", "5"}
    assert not (tmp_path / "doubled").exists()
    assert seen.report.worker_deaths == 8
    devices = Counter(line.split()[1] for line in (tmp_path / "seats").read_text().splitlines())
    assert sum(devices.values()) >= 8  # the last to die may not be replaced before the end


def test_workers_share_devices_in_turn(tmp_path: Path) -> None:
    handler = sw.per_worker(OnDevice, str(tmp_path), None, 2)
    seen = observe(lambda seen: small(seen, range(500), handler, devices=["a", "b"], workers=4))
    assert seen.error is None
    assert not (tmp_path / "doubled").exists()
    assert sorted(line.split()[1] for line in (tmp_path / "seats").read_text().splitlines()) == ["a", "a", "b", "b"]


def test_the_device_is_there_before_the_handler_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "early_bird.py").write_text(
        "import os\n\nSEEN = os.environ.get('CUDA_VISIBLE_DEVICES')\n\n\ndef tell(n):\n    return SEEN\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import early_bird  # type: ignore[import-not-found]

    try:
        graph = sw.Graph()
        assert list(sw.iterate(graph.source(range(4)).map(early_bird.tell, devices=["cuda:7"]))) == ["7"] * 4
    finally:
        del sys.modules["early_bird"]


def test_gpus_of_the_machine_are_dealt_out_to_all_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")

    def which(n: Any) -> Any:
        time.sleep(0.001)
        return (n, os.environ["CUDA_VISIBLE_DEVICES"])

    graph = sw.Graph()
    pairs = graph.source(range(200)).map(which, num_gpus=1, workers=2).map(which, num_gpus=0.5, workers=2)
    results = list(sw.iterate(pairs))
    assert [n for (n, _), _ in results] == list(range(200))
    assert {first for (_, first), _ in results} <= {"4", "5"}
    assert {second for _, second in results} == {"6"}


def test_cores_are_pinned() -> None:
    usable = sorted(os.sched_getaffinity(0))

    def where(n: int) -> list[int]:
        return sorted(os.sched_getaffinity(0))

    graph = sw.Graph()
    assert list(sw.iterate(graph.source(range(3)).map(where, cpus=[usable[-1]]))) == [[usable[-1]]] * 3


def what_fails(**options: Any) -> str:
    graph = sw.Graph()

    def run() -> None:
        graph.source([1]).map(str, name="text", **options).sink(print)
        sw.run(graph)

    with pytest.raises(sw.GraphError) as caught:
        run()
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": "cuda:0"}, "pass a list such as ['cuda:0', 'cuda:1']"),
        ({"devices": ["cuda:0", "cuda:0"]}, "pass different texts"),
        ({"devices": []}, "pass different texts"),
        ({"cpus": [True]}, "pass a core for each worker"),
        ({"cpus": [100_000]}, "this process may not use core 100000; choose from"),
        ({"num_gpus": 1.5}, "a part of 1 or a whole number"),
        ({"num_gpus": 0}, "a part of 1 or a whole number"),
        ({"num_gpus": 2, "workers": 4}, "this machine has 3 GPUs that this process may use, and 3 are left for it"),
        ({"num_cpus": "all"}, "must be a number, more than 0"),
        ({"resources": {"GPU": 1}}, "say GPU by num_gpus="),
        ({"resources": ["big"]}, "pass a dict such as {'big': 1}"),
        ({"placement": 3}, "use 'pack', 'spread', or the id"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert said in what_fails(**options)
