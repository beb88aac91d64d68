"""Runs from the command line: in this process, and as processes of their own where a run needs a shell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sluiceway as sw
from cli_flows import folder, told
from sluiceway.engine.cli.main import main
from sluiceway.graphs import gzip as ready_gzip

__all__ = ["folder"]


def sluiceway(*words: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    command = [sys.executable, "-m", "sluiceway.engine.cli.main", *words]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60, check=False)


# Runs


def test_a_run_in_this_process(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "flow:build", "--runner", "inline", "--limit", "4", "--report", "report.json", "--no-progress"]
    assert main([*words, "--set", "out=o.txt", "--set", "form=signed"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("flow: 4 events in, 4 out in ")
    assert (folder / "o.txt").read_text() == "+0\n+2\n+4\n+6\n"
    report = json.loads((folder / "report.json").read_text())
    assert (report["events_in"], report["ended_by"], report["runner"]) == (4, "limit", "inline")


def test_a_time_limit_ends_the_reading(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "flow:ready", "--runner", "inline", "--time-limit", "0", "--report", "r.json"]) == 0
    assert json.loads((folder / "r.json").read_text())["ended_by"] == "time_limit"
    assert capsys.readouterr().out == ""


def test_progress_is_drawn_on_standard_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "flow:build", "--workers", "1", "--set", "out=o.txt"]
    assert main([*words, "--progress"]) == 0
    assert "10 read" in capsys.readouterr().err
    assert main(words) == 0
    assert capsys.readouterr().err.startswith("flow: 10 events in")  # no terminal, no progress


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_a_failed_run_shows_where_and_exits_1(folder: Path, capsys: pytest.CaptureFixture[str], runner: str) -> None:
    words = ["run", "flow:build", "--runner", runner, "--workers", "1", "--report", "r.json"]
    assert main([*words, "--set", "out=o.txt", "--set", "fail_at=6"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    frames = [line.strip() for line in lines if line.startswith("  File")]
    assert frames == [f'File "{folder / "flow.py"}", line 20, in show']
    assert "ValueError: unlucky" in lines
    assert lines[-1].startswith("sluiceway: node 'show' failed on number 3 (index 0) after 1 attempt: ValueError: unl")
    assert "everything below 3 is released" in lines[-1]
    assert json.loads((folder / "r.json").read_text())["ended_by"] == "error"
    assert not (folder / "o.txt").exists()


def test_a_failure_without_user_code_has_no_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "flow:build", "--runner", "inline", "--set", "out=no/o.txt"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("sluiceway: sink 'o.txt' cannot be opened: FileNotFoundError: cannot write")


def test_standard_input_to_standard_output(folder: Path) -> None:
    done = sluiceway("run", "flow.py:copy", "--workers", "2", cwd=folder, stdin="one\ntwo\nthree")
    assert (done.returncode, done.stdout) == (0, "ONE\nTWO\nTHREE\n")
    assert done.stderr.startswith("copy: 3 events in, 3 out")


def test_errors_and_usage_as_a_shell_sees_them(folder: Path) -> None:
    failed = sluiceway("run", "flow:build", "--set", "out=-", "--set", "fail_at=4", cwd=folder)
    assert (failed.returncode, failed.stdout) == (1, "0\n2\n")
    assert failed.stderr.splitlines()[-1].startswith("sluiceway: node 'show' failed on number 2")
    wrong = sluiceway("plan", "flow:nothing", cwd=folder)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--set key=value" in sluiceway("run", "--help", cwd=folder).stdout


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_an_interrupt_is_one_line_and_exit_130(folder: Path, runner: str) -> None:
    command = [sys.executable, "-m", "sluiceway.engine.cli.main", "run", "flow:endless", "--runner", runner]
    words = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
    with subprocess.Popen([*command, "--report", "r.json"], **words) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGINT)
        rest, error = process.stdout.read(), process.stderr.read()
        code = process.wait(timeout=60)
    assert code == 130
    assert "Traceback" not in error
    report = json.loads((folder / "r.json").read_text())
    assert report["ended_by"] == "interrupt"
    released = report["released"]
    assert error.splitlines()[-1] == f"sluiceway: interrupted: {released:,} events were read, {released:,} released"
    assert rest.splitlines() == [str(2 * number) for number in range(1, released)]


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_a_reader_that_leaves_ends_the_run(folder: Path, runner: str) -> None:
    command = [sys.executable, "-m", "sluiceway.engine.cli.main", "run", "flow:endless", "--runner", runner]
    words = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
    with subprocess.Popen(command, **words) as process:  # type: ignore[call-overload]
        assert [process.stdout.readline() for _ in range(3)] == ["0\n", "2\n", "4\n"]
        process.stdout.close()
        error = process.stderr.read()
        code = process.wait(timeout=60)
    assert code == 1
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    assert error.endswith("sluiceway: standard output was closed by its reader, and the run ended there\n")


# Where modules are found


@pytest.mark.parametrize("name", ["gzip.py", "my-zip.py"])
def test_a_copied_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    text = Path(ready_gzip.__file__).read_text()
    relative = "from ..nodes.errors import GraphError\nfrom .builder.graph import Graph\n"
    assert relative in text
    (tmp_path / name).write_text(text.replace(relative, "from sluiceway import Graph, GraphError\n"))
    (tmp_path / "data").write_bytes(bytes(range(256)) * 40)
    # The script, not `-m`, which would put the folder before Python's own library.
    script = shutil.which("sluiceway", path=str(Path(sys.executable).parent))
    start = [script] if script else [sys.executable, "-c", "import sys, sluiceway.engine.cli.main as c; sys.exit(c.main())"]
    words = ["run", f"{name}:graph", "--set", "input=data", "--set", "block_bytes=1000"]
    done = subprocess.run([*start, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert ready_gzip.__name__ == "sluiceway.graphs.gzip"
    check = [sys.executable, "-I", "-c", "import gzip; print(len(gzip.open('data.gz').read()))"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "10240\n"


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_a_missing_input_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runner: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "sluiceway.graphs.gzip:graph", "--set", "input=nofile.txt", "--set", "output=o.gz"]
    assert main([*words, "--runner", runner, "--checkpoint", "run.db", "--report", "r.json"]) == 2
    assert capsys.readouterr().err == (
        f"sluiceway: cannot read nofile.txt: there is no such file in {tmp_path}; correct the path\n"
    )
    assert not list(tmp_path.iterdir())


def test_errors_speak_the_words_of_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "flow:build", "--runner", "inline", "--set", "out=o.txt", "--checkpoint", "run.db", "--quiet"]
    assert main([*words, "--resume", "required"]) == 1
    assert told(capsys) == (
        "cannot resume from run.db: it holds no checkpoint; name the file of the run that is to go on, or begin with"
        " --resume auto"
    )
    assert not (folder / "run.db").exists()
    assert main(words) == 0
    assert main([*words, "--limit", "2"]) == 1
    text = told(capsys)
    assert "with --limit 2: the run is at number 10 already" in text
    assert text.endswith("begin afresh with --resume never")


def test_quiet_says_errors_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "flow:build", "--runner", "inline", "--set", "out=o.txt", "--quiet"]
    assert main(words) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*words, "--set", "fail_at=4"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("sluiceway: node 'show' failed on number 2")


def test_verbose_logs_what_happens(folder: Path) -> None:
    words = ["run", "flow:build", "--workers", "1", "--set", "out=o.txt", "--checkpoint", "run.db", "--set", "n=30"]
    assert sluiceway(*words, "--time-limit", "0", "-v", cwd=folder).returncode == 0
    done = sluiceway(*words, "-vv", cwd=folder)
    lines = [line.partition(" sluiceway: ")[2] for line in done.stderr.splitlines() if ": sluiceway: " in line]
    assert done.returncode == 0
    assert any(line.startswith("graph 'flow' goes on at number ") for line in lines)
    assert "graph 'flow' begins" in lines
    assert "committed up to number 29" in lines
    assert lines[-1].startswith("graph 'flow' ended by source: ")


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_a_report_says_when_where_and_why(folder: Path, capsys: pytest.CaptureFixture[str], runner: str) -> None:
    words = ["run", "flow:build", "--runner", runner, "--workers", "1", "--report", "r.json", "--set", "out=o.txt"]
    assert main([*words, "--set", "fail_at=6"]) == 1
    report = json.loads((folder / "r.json").read_text())
    error = report["error"]
    assert (error["type"], error["node"], error["number"], error["index"]) == ("HandlerError", "show", 3, 0)
    assert error["text"].startswith("node 'show' failed on number 3")
    assert error["cause"] == "ValueError: unlucky second line"
    assert [line for line in error["traceback"].splitlines() if line.startswith("  File")] == [
        f'  File "{folder / "flow.py"}", line 20, in show'
    ]
    began, ended = (datetime.fromisoformat(report[name]) for name in ("began_at", "ended_at"))
    assert began.utcoffset() == ended.utcoffset() == timedelta(0)
    assert began <= ended
    assert (report["version"], report["host"]) == (sw.__version__, os.uname().nodename)
    assert main(words) == 0
    assert json.loads((folder / "r.json").read_text())["error"] is None


def test_a_report_that_cannot_be_written_at_the_end_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "flow:ready", "--runner", "inline", "--report", "/dev/full"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "sluiceway: cannot write --report: No space left on device; the run itself ended as said above"
    )


@pytest.mark.parametrize("runner", ["inline", "processes"])
@pytest.mark.parametrize("ignores_interrupts", [False, True])
def test_sigterm_is_one_line_a_report_and_exit_143(folder: Path, runner: str, ignores_interrupts: bool) -> None:
    command = [sys.executable, "-m", "sluiceway", "run", "flow:endless", "--runner", runner, "--report", "r.json"]
    if ignores_interrupts:  # as of a command that a shell has put into the background
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    words = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
    with subprocess.Popen(command, **words) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        error = process.stderr.read()
        code = process.wait(timeout=60)
    assert code == 143
    assert "Traceback" not in error
    report = json.loads((folder / "r.json").read_text())
    assert (report["ended_by"], report["error"], bool(report["ended_at"])) == ("interrupt", None, True)
    released = report["released"]
    assert error.splitlines()[-1] == f"sluiceway: terminated: {released:,} events were read, {released:,} released"
