"""Classes and names of `__main__`, which only one process knows, and the names of files in code that travels."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from sluiceway.engine.codec import pickling
from sluiceway.engine.codec.codec import (
    PICKLE,
    CodecError,
    Payload,
    decode,
    encode,
)


def test_a_name_of_main_is_asked_for_once_it_is_missing() -> None:
    asked: list[str] = []

    def resolve(name: str) -> object:
        asked.append(name)
        if name == "Gone":
            raise AttributeError(name)
        return dict

    payload = Payload(PICKLE, (b"(l" + b"c__main__\nOuter.Inner\na.N.",))
    gone = Payload(PICKLE, (b"(l" + b"c__main__\nGone\na.N.",))
    with pytest.raises(CodecError, match=r"__main__\.Outer\.Inner is not known"):
        decode(payload)
    pickling.set_definition_resolver(resolve)
    try:
        assert decode(payload) == [dict]
        with pytest.raises(CodecError, match=r"__main__\.Gone is not known"):
            decode(gone)
    finally:
        pickling.set_definition_resolver(None)
    assert asked == ["Outer.Inner", "Gone"]


CALLER = """
import base64, json, subprocess, sys
from dataclasses import dataclass
from enum import Enum

import cloudpickle
from sluiceway.engine.codec import pickling
from sluiceway.engine.codec.codec import Payload, decode, encode


@dataclass
class Job:
    number: int


class Level(Enum):
    LOW = 1


def make():
    @dataclass
    class Local:
        seen = 0
        number: int

    class Mood(Enum):
        GOOD = 1

    return Local, Mood


Local, Mood = make()


class Old:
    pass


Renamed, Old = Old, None   # a class that its own name no longer finds, as after a cell of a notebook is run again


def handler(events):
    for event in events:
        if isinstance(event, Local):
            Local.seen += 1
            event.number += Local.seen
    return [*events, Job(7), Level.LOW, Local(9), Mood.GOOD]


def pack(payload):
    return [payload.codec, [base64.b64encode(frame).decode() for frame in payload.frames]]


events = [Job(1), Level.LOW, Local(2), Mood.GOOD, Local(3), Renamed(), Renamed]
batches = [pack(encode([event])) for event in events] + [pack(encode(events))]
question = {
    "handler": base64.b64encode(pickling.dumps(handler)).decode(),
    "definitions": {n: base64.b64encode(cloudpickle.dumps(globals()[n])).decode() for n in ("Job", "Level")},
    "batches": batches,
}
worker = subprocess.run([sys.executable, sys.argv[1]], input=json.dumps(question), capture_output=True, text=True)
assert worker.returncode == 0, worker.stderr
report = json.loads(worker.stdout)
results = [
    decode(Payload(codec, tuple(base64.b64decode(frame) for frame in frames))) for codec, frames in report["batches"]
]
assert results[0] == [Job(1), Job(7), Level.LOW, Local(9), Mood.GOOD], results[0]
assert [type(event) for event in results[0]] == [Job, Job, Level, Local, Mood]
assert results[1][0] is Level.LOW and results[3][0] is Mood.GOOD
assert type(results[2][0]) is Local and results[2][0].number == 3      # 2 + Local.seen of the worker
assert results[4][0].number == 5                                      # Local.seen stayed 1 in the worker, now 2
assert Local.seen == 0                                                # and never came back
assert type(results[5][0]) is Renamed and results[6][0] is Renamed
assert [type(event) for event in results[7][:3]] == [Job, Level, Local]
print(json.dumps(report["asked"]))
"""

WORKER = """
import base64, json, sys
import cloudpickle
from types import ModuleType

sys.modules["__main__"] = ModuleType("__main__")
from sluiceway.engine.codec import pickling
from sluiceway.engine.codec.codec import Payload, decode, encode

question = json.loads(sys.stdin.read())
asked = []


def resolve(name):
    asked.append(name)
    thing = cloudpickle.loads(base64.b64decode(question["definitions"][name]))
    setattr(sys.modules["__main__"], name, thing)
    return thing


pickling.set_definition_resolver(resolve)
pickling.adopt_main_classes(ADOPT)
first = [Payload(c, tuple(base64.b64decode(f) for f in fs)) for c, fs in question["batches"]]
if not ADOPT:
    decode(first[0])
handler = pickling.loads(base64.b64decode(question["handler"]))
answers = [encode(handler(decode(payload))) for payload in first]
print(json.dumps({
    "asked": asked,
    "batches": [[p.codec, [base64.b64encode(f).decode() for f in p.frames]] for p in answers],
}))
"""


@pytest.mark.parametrize("adopt", [True, False])
def test_classes_of_main_and_local_classes_keep_their_identity_between_processes(tmp_path: Path, adopt: bool) -> None:
    caller, worker = tmp_path / "caller.py", tmp_path / "worker.py"
    caller.write_text(textwrap.dedent(CALLER))
    worker.write_text(textwrap.dedent(WORKER).replace("ADOPT", str(adopt)))
    done = subprocess.run([sys.executable, caller, worker], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # Classes that came with the handler and were adopted need not be asked for.
    assert done.stdout.strip() == ("[]" if adopt else '["Job", "Level"]')


def test_adoption_never_replaces_what_main_has(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[str, Any] = {"__name__": "__main__", "limit": 3}
    exec("class Foreign: pass\ndef foreign(n): return n + limit, Foreign", script)
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Foreign", None, raising=False)
    monkeypatch.setattr(main, "limit", 5, raising=False)
    monkeypatch.setattr(main, "foreign", None, raising=False)
    packed = pickling.dumps(script["foreign"])
    pickling.adopt_main_classes(True)
    try:
        assert pickling.loads(packed)(1) == (6, None)  # as another function of the script has left them
        assert main.Foreign is None
        for name in "Foreign", "limit", "foreign":
            monkeypatch.delattr(main, name)
        function = pickling.loads(packed)
        assert function(1) == (4, script["Foreign"])
        assert main.foreign is function
        assert main.Foreign is script["Foreign"]
    finally:
        pickling.adopt_main_classes(False)
        for name in "Foreign", "limit", "foreign":
            monkeypatch.delattr(main, name, raising=False)


def test_cloudpickle_still_has_the_parts_that_the_reader_stands_on() -> None:
    def local() -> type:
        class Local:
            pass

        return Local

    text = cloudpickle.dumps(local())
    assert b"_make_skeleton_class" in text
    assert b"_class_setstate" in text


def test_code_that_travels_keeps_the_name_of_its_file() -> None:
    """Tracebacks show lines by it; cloudpickle leaves it out from 3.1.3 on."""
    module: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def outer():\n    return lambda: 1 / 0\n", "/somewhere/flow.py", "exec"), module)
    for travelled in (cloudpickle.loads(pickling.dumps(module["outer"])), decode(encode([module["outer"]]))[0]):
        assert travelled.__code__.co_filename == "/somewhere/flow.py"
        assert travelled().__code__.co_filename == "/somewhere/flow.py"
        assert travelled.__code__ == module["outer"].__code__
