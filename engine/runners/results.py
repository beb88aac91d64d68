"""The results of a run as its consumer takes them: by `for`, by `async for`, with a time limit, from several threads.

Decides who may ask at a time, who waits while the run has nothing, and what leaving means in each thread and in a fork.
Knows nothing of what the run does.
"""

from __future__ import annotations

import _thread
import atexit
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import chain
from time import monotonic
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from ...nodes.errors import GraphError, SluicewayError
from ..interpreter.forks import OwnerProcess
from ..reporting.report import RunReport
from .auto import AutoRun
from .inline import InlineRun
from .processes import ProcessRun
from .waiting import AskingThread, Wakes

T_co = TypeVar("T_co", covariant=True)

Run = ProcessRun | InlineRun | AutoRun

#: The names of a run's threads begin so; results that are dropped in one of them do not wait there.
_ENGINE_THREADS = "sluiceway-"


class Results(chain[T_co]):  # type: ignore[type-var]  # chain only yields events: it is covariant in effect
    """The events of a stream, in order, while the graph runs: an iterator, an async iterator and a context manager.

    `report` is the run's report, complete once the run has ended. Leaving early stops the run. One asks at a time. It is
    a `chain` over the lists that the run delivers, so that an event costs its consumer no Python call.
    """

    _lists: ResultLists

    @staticmethod
    def of(run: Run, around: AbstractContextManager[object]) -> Results[Any]:
        """Return the results of a run that has not begun; `around` is entered while it goes on."""
        lists = ResultLists(run, around)
        results = Results.from_iterable(lists)
        assert isinstance(results, Results)
        results._lists = lists
        return results

    @property
    def report(self) -> RunReport:
        """The report as of now."""
        return self._lists.run.report()

    def __repr__(self) -> str:
        return self._lists.describe()

    def next(self, timeout: float | None = None) -> T_co:
        """Return the next event. Raises `TimeoutError` if there is none within `timeout` seconds; the run goes on."""
        if timeout is None:
            return next(self)
        deadline = monotonic() + _seconds(timeout)
        lists = self._lists
        while True:
            lists.polling = True
            try:
                return next(self)
            except NotReady:
                pass
            finally:
                lists.polling = False
            if not lists.wait(deadline):
                raise TimeoutError(
                    f"{lists.name} gave no result within timeout={timeout}; the run goes on: ask again, or close() the"
                    " results"
                )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        lists = self._lists
        while True:
            lists.polling = True
            try:
                return next(self)
            except NotReady:
                pass
            except StopIteration:
                raise StopAsyncIteration from None
            finally:
                lists.polling = False
            await lists.wait_in_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Stop the run, unless it has ended, and wait until its processes are gone.

        Any thread may call it; a thread that waits for a result then finds the end. No effect in a fork of the caller.
        """
        self._lists.close()

    async def aclose(self) -> None:
        """Do the same without blocking the loop."""
        await self._lists.close_in_loop()

    def __del__(self) -> None:
        lists = getattr(self, "_lists", None)
        if lists is not None:
            lists.discard()


class NotReady(Exception):
    """Nothing has arrived yet; the one who asked waits, and asks again."""


class ResultLists:
    """The lists of one run's results, for one who asks at a time; closed from any thread.

    What a `chain` is given raises what it must not end for: an error of the lists themselves would be the chain's end.
    """

    def __init__(self, run: Run, around: AbstractContextManager[object]) -> None:
        self.run = run
        self.name = f"graph {run.name!r}"
        #: Whether asking raises `NotReady` instead of waiting.
        self.polling = False
        self._batches = _reported(run, around)
        self._wakes = Wakes()
        self._owner = OwnerProcess()
        #: Whether somebody asks. No call may stand between its check and its change, where another thread could come.
        self._asked = False
        self._last: list[Any] = []
        #: Held while any thread is inside the generator.
        self._inside = threading.Lock()
        self._thread: int | None = None
        self._closing = False
        self._begun = False
        self._ended = False
        #: Asks in place of a consumer that must not wait, while the run works in the thread that asks.
        self._helper: AskingThread | None = None

    def __iter__(self) -> Iterator[Iterable[Any]]:
        return self

    def __next__(self) -> Iterable[Any]:
        """Return the next list, waiting for it unless the asker is `polling`."""
        self._check_process()
        if self._asked or self._wakes.waiting:
            return map(_refuse_second, (self.name,))
        self._asked = True
        try:
            self._last = []  # nothing of it is kept while the next one is waited for
            batch: Iterable[Any] = self._poll() if self.polling else self._wait_and_take()
        except BaseException:
            self._asked = False
            raise
        self._asked = False
        return batch

    def _poll(self) -> Iterable[Any]:
        """Return a list that is there, or what raises `NotReady`."""
        if self._closing:
            raise StopIteration
        if self._wakes.waited:
            self._wakes.waited = False  # a list for each wait, so that a loop does other things between two lists
            if self._ready():
                self._last = self._take() if self._helper is not None and self._helper.has_result else self._advance()
        return self._last or map(_raise_not_ready, (None,))

    def _wait_and_take(self) -> list[Any]:
        if self._helper is not None:
            self._helper.wait()  # one who did not wait has let it ask, and left
            if self._helper.has_result and (batch := self._take()):
                return batch
        self.run.set_waits(True)
        self._last = self._advance()
        return self._last

    def _take(self) -> list[Any]:
        assert self._helper is not None
        self._last = self._helper.pop()
        return self._last

    def _ready(self) -> bool:
        """Whether asking now does not wait; begins to ask in a thread where the run would work in this one."""
        if self._closing:
            return True
        self.run.set_waits(False)
        helper = self._helper
        if helper is not None and (helper.busy or helper.has_result):
            return helper.has_result
        if not self.run.works_in_caller:
            self._end_helper()
            self.run.listen(self._wakes.notify)
            return self.run.has_results
        if helper is None:
            helper = self._helper = AskingThread(self._advance, self._wakes.notify)
        helper.ask()
        return False

    def _advance(self) -> list[Any]:
        """Take the next list from the run, in this thread."""
        if not self._begun:
            self._begun = True
            # Also keeps the run out of every cycle of garbage: a collector would end it in whatever thread it runs in.
            atexit.register(self._close_at_exit)
        with self._inside:
            self._thread = _thread.get_ident()
            try:
                batch: list[Any] = [] if self._closing else next(self._batches)
                if self._closing:
                    self._batches.close()
                    raise StopIteration
            except BaseException:
                self._ended = True
                atexit.unregister(self._close_at_exit)
                raise
            finally:
                self._thread = None
        return batch

    # -- waiting --------------------------------------------------------------------------------------------------

    def wait(self, deadline: float) -> bool:
        """Wait until asking again may give something, or until `deadline`; return whether that was in time."""
        self._check_alone()
        return self._wakes.wait(self._ready, deadline)

    async def wait_in_loop(self) -> None:
        """Wait until asking again may give something; cancelled, it has taken nothing."""
        self._check_alone()
        await self._wakes.wait_in_loop(self._ready)

    def _check_alone(self) -> None:
        if self._wakes.waiting:
            _refuse_second(self.name)

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the run and wait until it is gone; called by what the run itself calls, only tell it to stop."""
        if self._owner.is_forked():
            return
        self._stop()
        if self._thread == _thread.get_ident():
            return
        with self._inside:
            self._end()
        self._end_helper()
        self._wakes.notify()

    def _end(self) -> None:
        self._batches.close()
        self.run.abandon()
        self._ended = True
        atexit.unregister(self._close_at_exit)

    def _close_at_exit(self) -> None:
        """Stop a run that is open when the interpreter ends; not waiting for what may never return."""
        if self._owner.is_forked():
            return
        self._stop()
        if self._inside.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._inside.release()

    async def close_in_loop(self) -> None:
        """Stop the run and wait until it is gone, while the loop goes on."""
        if self._owner.is_forked():
            return
        self._stop()
        closed = AskingThread(self._close_and_return, lambda: None)
        await closed.ask_in_loop()

    def _close_and_return(self) -> list[Any]:
        self.close()
        return []

    def discard(self) -> None:
        """Stop the run, for nobody can ask any more; wait for its end only where that holds up nothing of a run."""
        if self._owner.is_forked():
            return
        in_engine = threading.current_thread().name.startswith(_ENGINE_THREADS)
        if not self._is_open() or not (in_engine or self._helper is not None or self._wakes.used_in_loop):
            self.close()
            return
        self._stop()
        with suppress(RuntimeError):  # the interpreter ends: what it calls at its exit ends the run
            # Not a `threading.Thread`: starting one waits for locks that the interrupted code may hold.
            _thread.start_new_thread(self.close, ())

    def _stop(self) -> None:
        self._closing = True
        self._last.clear()  # a chain would continue with the list it has
        if self._is_open():
            self.run.stop()

    def _end_helper(self) -> None:
        if self._helper is not None:
            self._helper.end()
            self._helper = None

    def _is_open(self) -> bool:
        """Whether the run has begun, and not ended."""
        return self._begun and not self._ended

    def _check_process(self) -> None:
        if self._owner.is_forked():
            raise SluicewayError(
                f"a process asked for a result of {self.name}, whose run belongs to process {self._owner.pid},"
                " of which it is a fork; iterate there, or begin a run here"
            )

    def describe(self) -> str:
        """Return what the results are, for people."""
        report = self.run.report()
        if self._is_open():
            state = f"running, {report.events_out:,} events out"
        elif not self._begun:
            state = "closed" if self._closing else "not begun"
        else:
            state = f"ended by {report.ended_by or 'closed'}, {report.events_out:,} events out"
        return f"<Results of {self.name}: {state}>"


def _reported(run: Run, around: AbstractContextManager[object]) -> Generator[list[Any], None, None]:
    """Yield a run's lists inside of `around`, and attach the report to its errors."""
    with around:
        batches = run.batches()
        try:
            yield from batches
        except SluicewayError as error:
            error.report = run.report()
            raise
        finally:
            batches.close()


def _refuse_second(name: str) -> NoReturn:
    raise SluicewayError(
        f"a second thread or task asked for a result of {name} while the first still waits; let one ask and give the"
        " results on, in a queue"
    )


def _raise_not_ready(_: None) -> NoReturn:
    raise NotReady


def _seconds(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise GraphError(f"timeout is a number of seconds from 0 on, got {timeout!r}; leave it out to wait for ever")
    return timeout
