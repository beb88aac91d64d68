"""The stored form of kept answers: a row of a table, whose body is plain values that name no module.

Decides nothing about when answers are kept or deleted.
"""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

from ...nodes.ordering.barrier import FailureRecord
from ...nodes.ordering.kept_answers import KeptAnswer
from ...nodes.ordering.segments import ExitData
from ..codec.codec import Payload
from ..codec.stored_values import decode_stored, unreadable

#: Adds the row of an answer.
ADD_ANSWER = (
    "INSERT INTO {t}answer (name, node, first, size, code, body, digest)"
    " VALUES (:name, :node, :first, :size, :code, :body, :digest)"
)


def digest_of(node: str, first: int, size: int, body: bytes) -> bytes:
    """Return the digest of a row: of its body, and of what it is the answer for."""
    check = hashlib.blake2b(f"{node} {first} {size} ".encode(), digest_size=16)
    check.update(body)
    return check.digest()


def pack_answer(answer: KeptAnswer) -> bytes:
    """Return the body of the row of an answer; its numbers are stored beside."""
    exits = [(_plain(data.payload), data.counts, data.indices) for data in answer.exits]
    return pickle.dumps((answer.start, answer.size, exits, [_plain_failure(f) for f in answer.failures]), protocol=5)


def unpack_answer(lo: int, hi: int, body: bytes, what: str) -> KeptAnswer:
    """Return the answer for the numbers `lo .. hi - 1`; raises `CheckpointError`, in which `what` names it."""
    values = decode_stored(body, what)
    try:
        start, size, exits, failures = values
        data = []
        for plain, counts, indices in exits:
            payload = _payload(plain)
            data.append(ExitData(payload, payload.nbytes, counts, indices))
        return KeptAnswer(lo, hi, start, size, data, tuple(_failure(*told) for told in failures))
    except (TypeError, ValueError) as error:
        raise unreadable(what, error) from error


def _plain(payload: Payload) -> tuple[int, list[bytes]]:
    return payload.codec, [bytes(frame) for frame in payload.frames]


def _payload(plain: tuple[int, list[bytes]]) -> Payload:
    codec, frames = plain
    return Payload(codec, tuple(frames))


def _plain_failure(failure: FailureRecord) -> tuple[Any, ...]:
    event, cause = failure.payload or (None, b"")
    return *failure.facts, None if event is None else _plain(event), bytes(cause)


def _failure(*plain: Any) -> FailureRecord:
    *facts, event, cause = plain
    payload = None if event is None else _payload(event)
    nbytes = len(cause) + (0 if payload is None else payload.nbytes)
    return FailureRecord.of(facts, (payload, cause), nbytes)
