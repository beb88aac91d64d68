"""A tiny run of every bench, so that none rots: it ends well, and its tables hold what they promise."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import penstock as ps
import pytest
from penstock.engine import benching

BENCH = Path(ps.__file__).parent / "bench"

pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="the benches are in a checkout only")


def run(script: str, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a bench; its results go into `out`."""
    return subprocess.run(
        [sys.executable, str(BENCH / script), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PENSTOCK_BENCH_OUT": str(out)},
    )


def tables(name: str, out: Path, *words: str) -> dict[str, list[dict[str, Any]]]:
    """Run a bench in tiny and give its tables, as the JSON file has them, by title."""
    done = run(f"{name}.py", out, "--tiny", *words)
    assert done.returncode == 0, done.stderr
    content = json.loads((out / f"{name}.json").read_text())
    assert content["bench"] == name
    assert content["machine"]["cores"] >= 1
    assert content["machine"]["versions"]["penstock"]
    assert all(table["title"] in done.stdout for table in content["tables"])
    return {table["title"]: table["rows"] for table in content["tables"]}


def test_compare_times_penstock_beside_the_standard_library(tmp_path: Path) -> None:
    peers = ["loop", "penstock", "penstock auto", "Pool.imap"]
    given = tables("compare", tmp_path, "--works", "dict identity", "--peers", *peers)
    rows = next(rows for title, rows in given.items() if title.startswith("dict identity"))
    assert {row["runner"].partition(" (")[0] for row in rows} == set(peers)
    assert all(row["µs/event"] > 0 and row["CPU µs"] > 0 for row in rows)
    first = {row["runner"]: row["ms"] for row in given["first result after, workers not yet started"]}
    assert first.keys() == set(peers)
    memory = {row["runner"].partition(" (")[0]: row for row in given["peak memory on dict identity"]}
    # Its workers are counted: three processes of Python weigh more than one.
    assert memory["penstock"]["all processes MiB"] > memory["loop"]["all processes MiB"]
    assert memory["penstock"]["largest MiB"] < memory["penstock"]["all processes MiB"]


def test_compare_runs_a_pipeline_of_three_stages(tmp_path: Path) -> None:
    peers = ["penstock", "ProcessPoolExecutor.map"]
    given = tables("compare", tmp_path, "--works", "three stages", "--only-speed", "--peers", *peers)
    assert len(given) == 1
    assert {row["runner"].partition(" (")[0] for row in next(iter(given.values()))} == set(peers)


@pytest.mark.parametrize("module", ["joblib", "mpire", "torchdata"])
def test_compare_takes_a_peer_where_it_is_installed(tmp_path: Path, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    peer = {"torchdata": "torchdata nodes"}.get(module, module)
    given = tables("compare", tmp_path, "--works", "dict identity", "--only-speed", "--peers", "loop", peer)
    assert [row["runner"].partition(" (")[0] for row in next(iter(given.values()))][:2] == ["loop", peer]


def test_compare_says_which_peers_are_left_out(tmp_path: Path) -> None:
    if importlib.util.find_spec("pypeln") is not None:
        pytest.skip("pypeln is installed")
    done = run("compare.py", tmp_path, "--tiny", "--works", "int identity", "--only-speed", "--peers", "loop", "pypeln")
    assert done.returncode == 0
    assert "left out: pypeln: pypeln is not installed" in done.stderr


def test_floors_gives_multiples_of_each_floor(tmp_path: Path) -> None:
    (rows,) = tables("floors", tmp_path).values()
    by_floor = {row["floor"]: row for row in rows}
    ours = by_floor["penstock"]["µs/event"]
    for floor in ("loop", "codec", "sockets", "memory"):
        assert by_floor[floor]["penstock ×"] == pytest.approx(ours / by_floor[floor]["µs/event"])


def test_latency_gives_percentiles_in_order(tmp_path: Path) -> None:
    (rows,) = tables("latency", tmp_path).values()
    assert [row["runner"] for row in rows] == ["schedule alone", "workers=2", "workers=None"]
    assert all(0 < row["p50 ms"] <= row["p99 ms"] <= row["p99.9 ms"] for row in rows)


def test_order_compares_both_ways(tmp_path: Path) -> None:
    (rows,) = tables("order", tmp_path).values()
    assert {row["work"] for row in rows} >= {"dict identity", "skew"}
    for row in rows:
        assert row["unordered ÷ ordered"] == pytest.approx(row["unordered µs"] / row["ordered µs"])


def test_scale_changes_one_thing_at_a_time(tmp_path: Path) -> None:
    given = tables("scale", tmp_path)
    assert len(given) == 7
    assert all(len(rows) == 2 and rows[0]["× first"] == 1 for rows in given.values())


def test_gzip_unpacks_to_what_went_in(tmp_path: Path) -> None:
    (rows,) = tables("gzip", tmp_path).values()
    compressors = {row["compressor"].split()[0]: row for row in rows}
    assert compressors.keys() == {"penstock"} | {name for name in ("gzip", "pigz") if shutil.which(name)}
    assert all(0 < row["bytes"] < 1 << 20 for row in rows)


def test_micro_benches_run(tmp_path: Path) -> None:
    if importlib.util.find_spec("pytest_benchmark") is None:
        pytest.skip("pytest-benchmark is not installed")
    words = ["-c", os.devnull, "--benchmark-disable", "-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *words, f"--rootdir={BENCH.parent}", str(BENCH / "micro")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_charts_draw_what_the_benches_wrote(tmp_path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    tables("gzip", tmp_path)
    done = run("charts.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gzip.svg").read_text().lstrip().startswith("<?xml")


def test_the_command_says_where_the_benches_are(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    benching.add_bench_command(parser.add_subparsers())
    args = parser.parse_args(["bench", "--tiny", "--only", "gzip"])
    monkeypatch.setattr(benching, "RUNNER", tmp_path / "run.py")
    assert args.command(args) == 2
    assert "clone the repository" in capsys.readouterr().err


def test_the_command_runs_the_benches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import argparse

    monkeypatch.setenv("PENSTOCK_BENCH_OUT", str(tmp_path))
    parser = argparse.ArgumentParser()
    benching.add_bench_command(parser.add_subparsers())
    args = parser.parse_args(["bench", "--tiny", "--only", "gzip"])
    assert args.command(args) == 0
    assert (tmp_path / "gzip.json").is_file()
