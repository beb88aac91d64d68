"""Whether a failed call is made again: by the number of attempts, by the type of its error, or not at all.

Decides that for every executor and for calls past their time limit. Types are compared by their names, along the bases
of the error's type, so that a program is plain data and loading it imports nothing of the user's. Pauses between
attempts are the executors' business.
"""

from __future__ import annotations

from ..errors import GiveUp, HandlerTimeout
from .options import Options, type_name

#: The error that a call past its `timeout_s` counts as.
TIMED_OUT = (HandlerTimeout, TimeoutError)


def may_retry(options: Options, attempts: int, *errors: type[BaseException]) -> bool:
    """Whether a call that has failed `attempts` times is made again; its last error counts as all of `errors`."""
    if attempts > options.retries or issubclass(errors[0], GiveUp):
        return False
    return options.retry_on is None or any(
        type_name(base) in options.retry_on for error in errors for base in error.__mro__
    )
