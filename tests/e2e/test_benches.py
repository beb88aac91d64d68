"""A tiny run of every bench, so that none rots: it ends well, and its tables hold what they promise."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from marks import slow
from sluiceway.engine.cli import bench as benching
from sluiceway.engine.cli import main as cli

BENCH = Path(__file__).parents[2] / "bench"


def run(script: str, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a bench; its results go into `out`."""
    return subprocess.run(
        [sys.executable, str(BENCH / script), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SLUICEWAY_BENCH_OUT": str(out)},
    )


def tables(name: str, out: Path, *words: str) -> dict[str, list[dict[str, Any]]]:
    """Run a bench in tiny and give its tables, as the JSON file has them, by title."""
    done = run(f"{name}.py", out, "--tiny", *words)
    assert done.returncode == 0, done.stderr
    content = json.loads((out / f"{name}.json").read_text())
    assert content["bench"] == name
    assert content["machine"]["cores"] >= 1
    assert content["machine"]["versions"]["sluiceway"]
    assert all(table["title"] in done.stdout for table in content["tables"])
    return {table["title"]: table["rows"] for table in content["tables"]}


def test_compare_times_sluiceway_beside_the_standard_library(tmp_path: Path) -> None:
    peers = ["loop", "sluiceway", "sluiceway auto", "Pool.imap"]
    given = tables("compare", tmp_path, "--works", "dict identity", "--peers", *peers)
    rows = next(rows for title, rows in given.items() if title.startswith("dict identity"))
    assert {row["runner"].partition(" (")[0] for row in rows} == set(peers)
    assert all(row["µs/event"] > 0 and row["CPU µs"] > 0 for row in rows)
    first = {row["runner"]: row["ms"] for row in given["first result after, workers not yet started"]}
    assert first.keys() == set(peers)
    memory = {row["runner"].partition(" (")[0]: row for row in given["peak memory on dict identity"]}
    # Its workers are counted: three processes of Python weigh more than one.
    assert memory["sluiceway"]["all processes MiB"] > memory["loop"]["all processes MiB"]
    assert memory["sluiceway"]["largest MiB"] < memory["sluiceway"]["all processes MiB"]


@pytest.mark.slow
def test_compare_runs_a_pipeline_of_three_stages(tmp_path: Path) -> None:
    peers = ["sluiceway", "ProcessPoolExecutor.map"]
    given = tables("compare", tmp_path, "--works", "three stages", "--only-speed", "--peers", *peers)
    assert len(given) == 1
    assert {row["runner"].partition(" (")[0] for row in next(iter(given.values()))} == set(peers)


@pytest.mark.parametrize("peer", ["joblib", slow("mpire"), slow("pypeln"), slow("torchdata nodes")])
def test_compare_takes_a_peer_where_it_is_installed_and_else_says_so(tmp_path: Path, peer: str) -> None:
    module = peer.partition(" ")[0]
    words = ["--tiny", "--works", "dict identity", "--only-speed", "--peers", "loop", peer]
    done = run("compare.py", tmp_path, *words)
    assert done.returncode == 0, done.stderr
    (table,) = json.loads((tmp_path / "compare.json").read_text())["tables"]
    runners = {row["runner"].partition(" (")[0] for row in table["rows"]}
    if importlib.util.find_spec(module) is None:
        assert runners == {"loop"}
        assert f"left out: {peer}: {module} is not installed" in done.stderr
    else:
        assert runners == {"loop", peer}


@pytest.mark.slow
def test_floors_gives_multiples_of_each_floor(tmp_path: Path) -> None:
    (rows,) = tables("floors", tmp_path).values()
    by_floor = {row["floor"]: row for row in rows}
    ours = by_floor["sluiceway"]["µs/event"]
    for floor in ("loop", "caller", "codec", "sockets", "memory"):
        assert by_floor[floor]["sluiceway ×"] == pytest.approx(ours / by_floor[floor]["µs/event"])


@pytest.mark.slow
def test_latency_gives_percentiles_in_order(tmp_path: Path) -> None:
    (rows,) = tables("latency", tmp_path).values()
    assert [row["runner"] for row in rows] == ["schedule alone", "workers=2", "workers=None"]
    assert all(0 < row["p50 ms"] <= row["p99 ms"] <= row["p99.9 ms"] for row in rows)


@pytest.mark.slow
def test_order_compares_both_ways(tmp_path: Path) -> None:
    (rows,) = tables("order", tmp_path).values()
    assert {row["work"] for row in rows} >= {"dict identity", "skew"}
    for row in rows:
        assert row["unordered ÷ ordered"] == pytest.approx(row["unordered µs"] / row["ordered µs"])


@pytest.mark.slow
def test_scale_changes_one_thing_at_a_time(tmp_path: Path) -> None:
    given = tables("scale", tmp_path)
    simulated = given.pop("scale: decks of 8 workers, simulated")
    assert len(given) == 7
    assert all(len(rows) == 2 and rows[0]["× first"] == 1 for rows in given.values())
    assert all(row["decks"] == "1" and row["workers busy"] > 0.5 and row["core µs/batch"] > 0 for row in simulated)


def test_gzip_unpacks_to_what_went_in(tmp_path: Path) -> None:
    (rows,) = tables("gzip", tmp_path).values()
    compressors = {row["compressor"].split()[0]: row for row in rows}
    assert compressors.keys() == {"sluiceway"} | {name for name in ("gzip", "pigz") if shutil.which(name)}
    assert all(0 < row["bytes"] < 1 << 20 for row in rows)


def test_memory_weighs_every_process_at_rest_and_under_load(tmp_path: Path) -> None:
    given = tables("memory", tmp_path)
    assert list(given) == ["memory: slow sink, 1 MiB bytes", "memory: long run, small dicts"]
    for rows in given.values():
        by_role = {row["process"]: row for row in rows}
        together = by_role.pop("all")
        assert by_role.keys() == {"caller", "zygote", "source", "worker 1", "worker 2"}
        assert together["idle MiB"] == pytest.approx(sum(row["idle MiB"] for row in by_role.values()))
        for row in rows:
            assert row["peak MiB"] >= row["first quarter MiB"] > 0
            assert row["peak MiB"] >= row["last quarter MiB"] > 0
            assert row["peak − idle MiB"] == pytest.approx(row["peak MiB"] - row["idle MiB"])
            assert row["last − first MiB"] == pytest.approx(row["last quarter MiB"] - row["first quarter MiB"])
    content = json.loads((tmp_path / "memory.json").read_text())
    for case in content["raw"]:
        assert case["run"]["events"] > 0
        assert case["run"]["deaths"] == 0
        assert all(len(series) == len(case["at_s"]) for series in case["bytes"].values())


@pytest.mark.slow
def test_memory_says_so_where_its_run_cannot_start(tmp_path: Path) -> None:
    done = run("memory.py", tmp_path, "--tiny", "--cases", "slow-dicts", "--window-mib", "0")
    assert done.returncode == 1
    assert "the run did not start" in done.stderr
    assert not (tmp_path / "memory.json").exists()


def test_durable_compares_the_same_handlers(tmp_path: Path) -> None:
    given = tables("durable", tmp_path)
    assert [title.partition(",")[0] for title in given] == [
        f"durable: {case}" for case in ("plain_1ms", "async_1ms", "async_20ms", "latency")
    ]
    for without, durable in given.values():
        assert (without["handler"], durable["handler"]) == ("checkpoints alone", "durable")
        assert durable["× without"] == pytest.approx(durable["ms"] / without["ms"])


def test_checkpoint_compares_intervals_and_outputs(tmp_path: Path) -> None:
    given = tables("checkpoint", tmp_path)
    assert [title.partition(",")[0] for title in given] == ["checkpoint: files", "checkpoint: counts"]
    for rows in given.values():
        without, *others = rows
        assert [row["checkpoints"] for row in rows] == ["without", "every 1 s", "every 0.1 s"]
        assert all(row["same"] for row in rows)
        assert all(row["× without"] == pytest.approx(row["s"] / without["s"]) for row in rows)
        assert without["made"] is None
        # The one that the run begins with and the one that it ends with are always there.
        assert all(row["made"] >= 2 and row["in the store s"] > 0 for row in others)
    files, counts = given.values()
    # The states of all keys are in the store.
    assert counts[1]["store bytes"] > files[1]["store bytes"]


def test_micro_benches_work() -> None:
    words = ["-c", os.devnull, "-q", "-p", "no:cacheprovider", f"--rootdir={BENCH.parent}", str(BENCH / "micro")]
    if importlib.util.find_spec("pytest_benchmark") is not None:
        words.append("--benchmark-disable")
    done = subprocess.run([sys.executable, "-m", "pytest", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE)


def test_micro_benches_are_measured_or_say_what_they_need(tmp_path: Path) -> None:
    done = run("run.py", tmp_path, "--tiny", "--only", "micro")
    assert done.returncode == 0, done.stderr
    if importlib.util.find_spec("pytest_benchmark") is None:
        assert "left out: micro: pytest-benchmark is not installed" in done.stderr
        return
    (table,) = json.loads((tmp_path / "micro.json").read_text())["tables"]
    assert len(table["rows"]) > 10
    assert all(row["ns/event"] > 0 for row in table["rows"])


def test_charts_draw_what_the_benches_wrote_or_say_what_they_need(tmp_path: Path) -> None:
    tables("gzip", tmp_path)
    done = run("charts.py", tmp_path)
    assert done.returncode == 0, done.stderr
    if importlib.util.find_spec("matplotlib") is None:
        assert "no charts: matplotlib is not installed" in done.stderr
        return
    assert (tmp_path / "gzip.svg").read_text().lstrip().startswith("<?xml")


# -- the command ------------------------------------------------------------------------------------------------


def test_every_bench_is_listed() -> None:
    reporting = {path.stem for path in BENCH.glob("*.py") if f'report("{path.stem}"' in path.read_text()}
    assert set(benching.BENCHES) == reporting | {"micro"}


def test_the_command_explains_the_benches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bench", "--help"])
    assert exit_.value.code == 0
    told = capsys.readouterr().out
    assert all(f"  {name:<12}{what}\n" in told for name, what in benching.BENCHES.items())
    assert "sluiceway bench --only memory" in told


def test_the_command_knows_its_benches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bench", "--only", "nothing"])
    assert exit_.value.code == 2
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


def test_the_command_says_where_the_benches_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(benching, "RUNNER", tmp_path / "run.py")
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "run.py").write_text("raise SystemExit('this is somebody else\'s')")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "--tiny", "--only", "gzip"]) == 2
    assert "clone the repository" in capsys.readouterr().err


def test_the_command_runs_the_benches_of_the_clone_it_is_called_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLUICEWAY_BENCH_OUT", str(tmp_path))
    monkeypatch.setattr(benching, "RUNNER", tmp_path / "run.py")
    monkeypatch.chdir(BENCH.parent)
    assert cli.main(["bench", "--tiny", "--only", "gzip"]) == 0
    assert (tmp_path / "gzip.json").is_file()
