"""The command line: usage in this process, runs that need a shell as processes of their own."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sluiceway as sw
from sluiceway.engine.cli.main import main
from sluiceway.graphs import gzip as ready_gzip

FLOW = '''
from __future__ import annotations
import datetime
import itertools
from decimal import Decimal
from enum import Enum
import sys
from pathlib import Path
from typing import Literal
import sluiceway as sw
from flow_helper import double

class Level(Enum):
    LOW = 1
    HIGH = 2

def build(out: Path, n: int = 10, fail_at: int | None = None, form: Literal["plain", "signed"] = "plain") -> sw.Graph:
    def show(event: int) -> str:
        if event == fail_at:
            raise ValueError("unlucky\\nsecond line")
        return f"{event:+}" if form == "signed" else str(event)
    graph = sw.Graph("flow")
    graph.source(range(n)).map(double).map(show).sink(sw.lines(out))
    return graph

def copy() -> sw.Graph:
    graph = sw.Graph("copy")
    graph.source(sw.lines("-")).map(str.upper).sink(sw.lines("-"))
    return graph

def endless() -> sw.Graph:
    graph = sw.Graph("endless")
    graph.source(itertools.count).map(double).map(str).sink(sw.lines("-"))
    return graph

def raising() -> sw.Graph:
    raise OSError("no such thing")

def leaving() -> sw.Graph:
    sys.exit(3)

def wrong() -> int:
    return 3

def dated(when: datetime.date, price: Decimal = Decimal("1.5"), level: Level = Level.LOW) -> sw.Graph:
    "Show what was given."
    graph = sw.Graph("dated")
    graph.source([(when, price, level.name)]).sink(print)
    return graph

def unwired() -> sw.Graph:
    return sw.Graph("unwired")

ready = sw.Graph("ready")
ready.source(range(4)).sink(print)
number = 3
'''
HELPER = "def double(event):\n    return 2 * event\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a working folder with a module, and forget afterwards what was imported from it."""
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "flow_helper.py").write_text(HELPER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before, log = set(sys.modules), logging.getLogger()
    level, handlers = log.level, log.handlers[:]
    yield tmp_path
    log.setLevel(level)  # a command line sets up the log of its process
    log.handlers[:] = handlers
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def sluiceway(*words: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    command = [sys.executable, "-m", "sluiceway.engine.cli.main", *words]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that was written to standard error."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sluiceway: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("sluiceway: ").rstrip("\n")


# Usage


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["flow"], "'flow' names no graph; write MODULE:GRAPH or path/file.py:graph"),
        (["flow:"], "'flow:' names no graph"),
        (["nowhere:graph"], "there is no module 'nowhere' in "),
        (["flow.inner:graph"], "there is no module 'flow.inner' in "),
        (["nowhere.py:graph"], "cannot open nowhere.py: there is no such Python file"),
        (["./flow:graph"], "cannot open flow: there is no such Python file"),
        (["flow:graph"], "flow has no 'graph'; its graphs are build, copy, endless, raising, leaving, dated, unwired, ready"),
        (["flow:number"], "flow:number is an int; name a Graph or a function that returns one"),
        (["flow:wrong"], "wrong() of flow:wrong returned an int; let it return the Graph"),
        (["flow:ready", "--set", "a=1"], "--set a=1: flow:ready is a graph and takes no values"),
        (["flow:build"], "build() needs --set out=...; the parameters of build() are out: Path, n: int = 10, "),
        (["flow:build", "--set", "m=1"], "--set m=1: build() has no parameter 'm'; the parameters of build() are out"),
        (["flow:build", "--set", "n=x"], "build() needs --set out=..."),
        (["flow:build", "--set", "out=o", "--set", "n=x"], "--set n=x: this is no int; the parameters of build() are"),
        (["flow:build", "--set", "out=o", "--set", "form=x"], "--set form=x: it is one of plain, signed; "),
        (["flow:ready", "--report", "no/r.json"], "cannot write --report no/r.json: its folder does not exist"),
        (["flow:ready", "--report", "."], "cannot write --report .: Is a directory; name a file that can be written"),
        (["flow:ready", "--checkpoint", "no/c.db"], "cannot use --checkpoint no/c.db: there is no folder "),
        (["flow:dated", "--set", "when=May"], "--set when=May: this is no date, such as 2024-02-29; the parameters"),
        (["flow:dated", "--set", "when=2024-02-29", "--set", "level=NO"], "--set level=NO: it is one of LOW, HIGH; "),
        (["flow:unwired"], "graph 'unwired'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(["run", *words]) == 2
    assert told(capsys).startswith(line)


@pytest.mark.parametrize("store", ["none.db", "flow.py", "postgresql+psycopg://me:word@127.0.0.1:1/none"])
def test_a_store_that_cannot_be_shown_is_one_line_and_exit_1(
    folder: Path, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    assert main(["checkpoints", store]) == 1
    assert told(capsys).startswith("cannot look into ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run"], "the following arguments are required: MODULE:GRAPH"),
        (["run", "flow:ready", "--workers", "0"], "--workers: '0' is no whole number of 1 or more"),
        (["run", "flow:ready", "--limit", "-1"], "--limit: "),
        (["run", "flow:ready", "--time-limit", "nan"], "--time-limit: 'nan' is no number of seconds"),
        (["run", "flow:ready", "--runner", "threads"], "invalid choice: 'threads'"),
    ],
)
def test_wrong_words_are_refused_by_the_parser(capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import nowhere_at_all", "cannot import broken: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1 / 0", "cannot import broken: ZeroDivisionError: division by zero"),
        ("raise SystemExit(4)", "cannot import broken: SystemExit: 4"),
        ("def (", "cannot import broken: SyntaxError: invalid syntax (broken.py, line 1)"),
    ],
)
@pytest.mark.parametrize("target", ["broken:graph", "broken.py:graph"])
def test_a_module_that_cannot_be_imported_is_named_and_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], code: str, line: str, target: str
) -> None:
    (folder / "broken.py").write_text(code)
    assert main(["run", target]) == 2
    shown, _, last = capsys.readouterr().err.rstrip("\n").rpartition("\n")
    assert last == f"sluiceway: {line}"
    assert code in shown
    assert "importlib" not in shown
    assert "target.py" not in shown


def test_a_function_that_raises_is_named_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "flow:raising"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "sluiceway: raising() of flow:raising raised OSError: no such thing"
    assert [line.strip() for line in lines if line.startswith("  File")] == [
        f'File "{folder / "flow.py"}", line 37, in raising'
    ]
    assert main(["run", "flow:leaving"]) == 2
    assert capsys.readouterr().err.endswith("sluiceway: leaving() of flow:leaving raised SystemExit: 3\n")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sluiceway {sw.__version__}\n"
    module = [sys.executable, "-m", "sluiceway", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout == f"sluiceway {sw.__version__}\n"


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == sw.__version__


def test_the_plan_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "flow:build", "--set", "out=o", "--workers", "3"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("plan of 'flow': ")
    assert "double, show" in table
    assert " x 3" in table
    assert main(["plan", "flow.py:build", "--set", "out=o", "--mermaid"]) == 0
    assert "\nflowchart LR\n" in capsys.readouterr().out
    assert not (folder / "o").exists()


def test_help_behind_a_graph_shows_what_it_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "plan"):
        with pytest.raises(SystemExit) as caught:
            main([command, "flow:dated", "--help"])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: sluiceway {command} ")
        assert shown.endswith(
            "flow:dated: Show what was given.\nvalues of flow:dated, as --set key=value:\n  when: datetime.date\n"
            "  price: decimal.Decimal = Decimal('1.5')\n  level: flow.Level = <Level.LOW: 1>\n"
        )


def test_dates_decimals_and_members_are_values(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = ["when=2024-02-29", "price=2.50", "level=HIGH"]
    words = [word for value in values for word in ("--set", value)]
    assert main(["run", "flow:dated", "--runner", "inline", "--quiet", *words]) == 0
    assert capsys.readouterr() == ("(datetime.date(2024, 2, 29), Decimal('2.50'), 'HIGH')\n", "")


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
