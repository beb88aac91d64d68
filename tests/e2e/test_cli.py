"""The command line: usage, in this process."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import sluiceway as sw
from cli_flows import folder, told
from sluiceway.engine.cli.main import main

__all__ = ["folder"]


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
