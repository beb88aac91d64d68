"""The names of options: which ones a call has, and what an error says of one that it does not have.

Decides what was meant: an option of another call of ours, an option of another library, or a typing error. It knows no
option's value.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...nodes.program.options import HANDLER_OPTION_NAMES

#: The options of a run, in the order in which errors list them; a test compares them with the fields of `RunOptions`.
RUN_OPTION_NAMES = (
    "workers", "runner", "progress", "limit", "time_limit_s", "stop", "window_bytes", "window_numbers", "max_deaths",
    "max_events_per_worker", "max_rss_bytes", "stall_warning_s", "drain_s", "close_s", "transport", "checkpoint",
    "checkpoint_interval_s", "keep", "kept_bytes", "resume", "lock", "setup", "serve",
)  # fmt: skip

#: Where the options of one call belong, for errors about them in another.
_HOMES = {
    "batch_size": "map_batches",
    "journal": "graph.source",
    "ttl": "key_by",
    "allowed_lateness": "window",
    "order": "graph.sequence",
    **dict.fromkeys(HANDLER_OPTION_NAMES, "the handler: stream.map(fn, {name}=...) and its like"),
    **dict.fromkeys(RUN_OPTION_NAMES, "the run: sw.run(graph, {name}=...)"),
}

_WORKERS = "the number of processes is `workers`"
_SIZES = "batches size themselves, leave it out"
_SETUP = "a function to be called once in every process is `setup` of a run; a handler class is built once in each worker"
_RECYCLE = "a worker is replaced after `max_events_per_worker`"
_ERRORS = "what is done with an event that failed is `on_error`; its exception is raised, or stands in a dead letter"
_RESULTS = "results are iterated, or given to a sink; there are no callbacks"
_PROGRESS = "progress is shown with `progress=True`, or given as reports to a function"

#: Options of other libraries, and what to use instead.
FOREIGN_OPTIONS = {
    **dict.fromkeys(("processes", "max_workers", "n_jobs", "n_workers", "num_workers", "nprocs"), _WORKERS),
    **dict.fromkeys(("chunksize", "chunk_size", "n_splits", "prefetch", "prefetch_factor"), _SIZES),
    **dict.fromkeys(("initializer", "worker_init", "worker_init_fn"), _SETUP),
    "initargs": "bind the arguments of `setup` with functools.partial; `sw.per_worker` binds those of a handler class",
    "worker_exit": "the end of a worker is the method `close()` of a handler class",
    **dict.fromkeys(("maxtasksperchild", "max_tasks_per_child", "worker_lifespan"), _RECYCLE),
    **dict.fromkeys(("error_callback", "return_exceptions"), _ERRORS),
    "callback": _RESULTS,
    **dict.fromkeys(("progress_bar", "verbose", "desc"), _PROGRESS),
    **dict.fromkeys(("timeout", "task_timeout"), "seconds for one call are `timeout_s` of a handler, for a run `time_limit_s`"),
    **dict.fromkeys(("max_retries", "max_attempts", "tries"), "the number of further attempts is `retries` of a handler"),
    **dict.fromkeys(("backoff", "delay", "retry_delay"), "the pause before a further attempt is `backoff_s` of a handler"),
    "maxsize": "what is in flight is bounded by `window_bytes` and `window_numbers`",
    **dict.fromkeys(("mp_context", "context", "start_method", "backend"), "how processes start is not chosen, leave it out"),
}


#: Calls of other libraries, and what to use instead.
FOREIGN_NAMES = {
    **dict.fromkeys(("Pool", "ProcessPoolExecutor", "Parallel", "WorkerPool"), "sw.imap(fn, iterable, workers=4)"),
    **dict.fromkeys(("map", "map_async", "parallel_map"), "sw.imap(fn, iterable), or stream.map(fn) in a graph"),
    **dict.fromkeys(("imap_unordered", "as_completed"), "sw.imap(fn, iterable, ordered=False)"),
    **dict.fromkeys(("starmap", "starmap_async"), "sw.imap(lambda args: fn(*args), iterable_of_tuples)"),
    **dict.fromkeys(("submit", "apply", "apply_async", "delayed"), "sw.imap(fn, iterable): one run for many calls"),
}


def check_option_names(given: Iterable[str], known: Iterable[str], *, call: str) -> None:
    """Raise `TypeError` for the first name that is not an option of `call`, with what was probably meant."""
    known = tuple(known)
    for name in given:
        if name not in known:
            raise TypeError(f"{call} has no option {name!r}{_meant(name, known)}")


def check_handler_option_names(given: Iterable[str], *, call: str) -> None:
    """Raise `TypeError` for the first name that is not an option of a handler; see `check_option_names`."""
    check_option_names(given, HANDLER_OPTION_NAMES, call=call)


def _meant(name: str, known: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # only where a name is wrong

    if name in _HOMES:
        return f": it belongs to {_HOMES[name].format(name=name)}"
    if name in FOREIGN_OPTIONS:
        return f": {FOREIGN_OPTIONS[name]}"
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint or ';'} it has {', '.join(known)}"
