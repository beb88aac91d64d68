"""The peers: one small adapter for each runner that is compared, sluiceway and the plain loop among them.

An adapter opens its workers, yields the results of a work lazily and in order, and closes. `chunk` is the number of
events that travel together: `None` is the runner's own default, other values are what a user would search by hand. A
runner without such an option is tuned as its users do it, by lists of events and a handler for lists.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from bench.works import Work

#: What a search over chunk sizes tries.
CHUNKS = (8, 64, 512, 4096)


class Peer:
    """A runner. `needs` are the modules it must find; `chunks` what a search tries (nothing: there is no such knob)."""

    name = ""
    needs: tuple[str, ...] = ()
    chunks: tuple[int, ...] = CHUNKS
    #: At most this many events, for runners that read all inputs before they return a result.
    most = 20_000_000
    #: Whether there is a pool that can be started before the clock; else starting and ending is part of every run.
    keeps_pool = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @classmethod
    def missing(cls) -> str | None:
        """Return the first module that is not installed, if any."""
        return next((name for name in cls.needs if importlib.util.find_spec(name) is None), None)

    def load(self) -> None:
        """Import what is needed."""

    def open(self, work: Work) -> None:
        """Start the workers."""

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        """Return the results of `work.fn` for every event, in order."""
        raise NotImplementedError

    def close(self) -> None:
        """End the workers."""


class Many:
    """A handler of lists made from a handler of events."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn

    def __call__(self, events: list[Any]) -> list[Any]:
        return list(map(self.fn, events))


def lists(events: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Cut events into lists."""
    rest = iter(events)
    while part := list(islice(rest, size)):
        yield part


class Loop(Peer):
    """The plain loop."""

    name = "loop"
    chunks = ()

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        return map(work.fn, events)


class Sluiceway(Peer):
    """sluiceway with as many workers as the others."""

    name = "sluiceway"
    needs = ("sluiceway",)
    chunks = ()
    keeps_pool = False

    def load(self) -> None:
        import sluiceway as sw

        self._sw = sw
        _ = sw.imap, sw.iterate, sw.Graph  # they are loaded on first use

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        if not work.stages:
            return self._sw.imap(work.fn, events, workers=self._count())
        stream: Any = self._sw.Graph("compare").source(events)
        for op, fn in work.stages:
            stream = getattr(stream, op)(fn)
        return self._sw.iterate(stream, workers=self._count())

    def _count(self) -> int | None:
        return self.workers


class SluicewayAuto(Sluiceway):
    """sluiceway without the option `workers`."""

    name = "sluiceway auto"

    def _count(self) -> int | None:
        return None


class SluicewayLoose(Sluiceway):
    """sluiceway without order."""

    name = "sluiceway unordered"

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        results: Iterable[Any] = self._sw.imap(work.fn, events, workers=self.workers, ordered=False)
        return results


class PoolImap(Peer):
    """`multiprocessing.Pool.imap`."""

    name = "Pool.imap"

    def open(self, work: Work) -> None:
        from multiprocessing import Pool

        self._pool = Pool(self.workers)

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        return self._pool.imap(work.fn, events, chunksize=chunk or 1)

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class ExecutorMap(Peer):
    """`concurrent.futures.ProcessPoolExecutor.map`; it reads all inputs before it returns a result."""

    name = "ProcessPoolExecutor.map"
    most = 500_000

    def open(self, work: Work) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self._pool = ProcessPoolExecutor(self.workers)

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        return self._pool.map(work.fn, events, chunksize=chunk or 1)

    def close(self) -> None:
        self._pool.shutdown()


class Joblib(Peer):
    """joblib with its default backend."""

    name = "joblib"
    needs = ("joblib",)

    def load(self) -> None:
        import joblib

        self._joblib = joblib

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        run = self._joblib.Parallel(n_jobs=self.workers, return_as="generator", batch_size=chunk or "auto")
        task = self._joblib.delayed(work.fn)
        results: Iterable[Any] = run(task(event) for event in events)
        return results

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown()


class Mpire(Peer):
    """mpire's ordered imap; events go in tuples, for it unpacks dicts into keyword arguments."""

    name = "mpire"
    needs = ("mpire",)

    def open(self, work: Work) -> None:
        from mpire import WorkerPool

        self._pool = WorkerPool(n_jobs=self.workers)

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        results: Iterable[Any] = self._pool.imap(work.fn, ((event,) for event in events), iterable_len=n, chunk_size=chunk)
        return results

    def close(self) -> None:
        self._pool.terminate()


class RayActors(Peer):
    """Ray actors in an `ActorPool`; it reads all inputs before it returns a result."""

    name = "Ray actors"
    needs = ("ray",)
    most = 200_000

    def open(self, work: Work) -> None:
        import os

        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
        from ray.util import ActorPool

        ray.init(num_cpus=self.workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self._ray = ray
        fn = work.fn

        class Actor:
            def one(self, event: Any) -> Any:
                return fn(event)

            def many(self, events: list[Any]) -> list[Any]:
                return list(map(fn, events))

        remote = ray.remote(Actor)
        self._actors = ActorPool([remote.remote() for _ in range(self.workers)])

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        if chunk is None:
            results: Iterable[Any] = self._actors.map(lambda actor, event: actor.one.remote(event), events)
            return results
        many = self._actors.map(lambda actor, part: actor.many.remote(part), lists(events, chunk))
        return chain.from_iterable(many)

    def close(self) -> None:
        self._ray.shutdown()


class Dask(Peer):
    """dask.distributed's `Client.map`, gathered; it reads all inputs before it returns a result."""

    name = "Dask"
    needs = ("distributed",)
    most = 100_000

    def open(self, work: Work) -> None:
        import logging

        from distributed import Client

        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._client = Client(n_workers=self.workers, threads_per_worker=1, dashboard_address=None)

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        if chunk is None:
            return self._gathered(self._client.map(work.fn, list(events), pure=False))
        futures = self._client.map(Many(work.fn), list(lists(events, chunk)), pure=False)
        return chain.from_iterable(self._gathered(futures))

    def _gathered(self, futures: list[Any]) -> Iterator[Any]:
        for part in lists(futures, 256):
            yield from self._client.gather(part)

    def close(self) -> None:
        self._client.shutdown()


class Pypeln(Peer):
    """pypeln's processes with `ordered`; it returns nothing before all is done."""

    name = "pypeln"
    keeps_pool = False
    needs = ("pypeln", "pkg_resources")
    most = 200_000

    def load(self) -> None:
        import pypeln

        self._process = pypeln.process

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        process = self._process
        if chunk is None:
            results: Iterable[Any] = process.map(work.fn, events, workers=self.workers) | process.ordered
            return results
        many = process.map(Many(work.fn), lists(events, chunk), workers=self.workers) | process.ordered
        return chain.from_iterable(many)


class TorchdataNodes(Peer):
    """torchdata's `ParallelMapper` with processes, in order."""

    name = "torchdata nodes"
    keeps_pool = False
    needs = ("torchdata", "torch")

    def load(self) -> None:
        import torchdata.nodes

        self._nodes = torchdata.nodes

    def results(self, work: Work, events: Iterable[Any], n: int, chunk: int | None) -> Iterable[Any]:
        nodes = self._nodes
        source = nodes.IterableWrapper(events if chunk is None else lists(events, chunk))
        fn = work.fn if chunk is None else Many(work.fn)
        mapped = nodes.ParallelMapper(source, fn, num_workers=self.workers, in_order=True, method="process")
        results = iter(nodes.Loader(mapped))
        return results if chunk is None else chain.from_iterable(results)


PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        *(Loop, Sluiceway, SluicewayAuto, PoolImap, ExecutorMap),
        *(Joblib, Mpire, RayActors, Dask, Pypeln, TorchdataNodes),
    )
}
OURS = ("loop", "sluiceway", "sluiceway auto")
ALL = PEERS | {SluicewayLoose.name: SluicewayLoose}
