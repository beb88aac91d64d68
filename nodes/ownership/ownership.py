"""Whose an event is: what user code gives belongs to the engine before that code runs on.

Decides which events nobody else can change: those that are immutable all through, and fresh ones, of which every part
has no reference but the one that leads to it. Any other is copied here, at once, so that a generator may fill one array,
dict or element again and again. What only looks into its iterator cannot be copied and is refused. How events are copied
is passed in; where a count of references says nothing, without the interpreter lock, whatever can change is copied.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from gc import get_referents, is_tracked
from itertools import chain, groupby, starmap
from sys import getrefcount
from types import CellType, FunctionType
from typing import Any, TypeAlias

from ..given import is_file, unrun_error, view_error
from . import reference_counts as counts
from .mutability import IMMUTABLE, Mutability, captures, has_own_memory, is_frozen, is_record, kind_of
from .reference_counts import CALLED, GIVEN, LISTED, NEVER, REFERENT, RESULT

#: Returns an independent copy of every event of a list.
Copier: TypeAlias = Callable[[list[Any]], list[Any]]
#: Returns how often the engine refers to objects, by their ids.
Held: TypeAlias = Callable[[], Mapping[int, int]]
#: Returns the inputs of a handler, from one a number of events before the next call on.
Inputs: TypeAlias = Callable[[int], Iterator[Any]]

#: The most objects of an input that are looked at for parts which its result shares with it.
_MOST_PARTS = 10_000
_WALKED = frozenset({Mutability.HOLDER, Mutability.FROZEN})
_DICT = frozenset({dict})
_PLAIN = frozenset({dict, list, set})
_are_immutable = IMMUTABLE.issuperset


class Ownership:
    """Makes what user code gives the engine's own; `what` begins the text of a refusal, as "the source gave".

    With `files`, open files pass: the next handler reads each in the process that opened it. A count of references is
    always taken before the object is passed on, and in a form that `reference_counts` has measured.
    """

    def __init__(self, copies: Copier, what: str, *, files: bool = False) -> None:
        self._copies = copies
        self._what = what
        self._files = files
        self._kind: Callable[[type], Mutability] = lru_cache(maxsize=512)(kind_of)
        self._input = NEVER
        #: The most references of an input that nobody but the engine has, beside its result in a method that `map` calls.
        self.beside = NEVER
        #: What could not be copied last: it is not tried again for the next event.
        self._uncopied: Any = None

    # -- events one after the other ----------------------------------------------------------------------------

    def each(self, given: Iterable[Any]) -> Iterator[Any]:
        """Return the events of an iterator, each owned before the next one is asked for; raises `NotGiven` for a view.

        Runs of events of one immutable type pass in C, without a call for each. A `chain` never asks again what has ended,
        as a handler's StopIteration may make it seem.
        """
        return chain.from_iterable(starmap(self._of_type, groupby(chain(given), type)))

    def _of_type(self, cls: type, events: Iterator[Any]) -> Iterator[Any]:
        if cls in IMMUTABLE:
            return events
        rule = _RULES.get(cls) or (Ownership._own_array if self._kind(cls) is Mutability.ARRAY else Ownership._own)
        return map(rule.__get__(self), events)

    def _own_dict(self, event: Any) -> Any:
        alone = getrefcount(event) <= GIVEN
        # Until Python 3.13 the collector does not track a dict that holds nothing but atoms, arrays and buffers.
        if not is_tracked(event):
            for value in event.values():
                if type(value) not in IMMUTABLE:
                    value = None  # a reference of this variable would count
                    break
            else:
                return event if alone else event.copy()
        return self.owned(event, alone)

    def _own_tuple(self, event: Any) -> Any:
        alone = getrefcount(event) <= GIVEN
        return event if _are_immutable(map(type, event)) else self.owned(event, alone)

    def _own_array(self, event: Any) -> Any:
        alone = getrefcount(event) <= GIVEN
        return event if alone and has_own_memory(event) else self._copied(event)

    def _own(self, event: Any) -> Any:
        alone = getrefcount(event) <= GIVEN
        return self.owned(event, alone)

    def called(self, event: Any) -> Any:
        """Return one event as the engine's own, for a caller that has it in a variable."""
        alone = getrefcount(event) <= CALLED
        return event if type(event) in IMMUTABLE else self.owned(event, alone)

    # -- results, which may be their inputs or have parts of them ------------------------------------------------

    def expect_inputs(self, events: Sequence[Any]) -> None:
        """Prepare for results of these inputs, which other lists of the engine may hold too; nobody has seen them yet."""
        self._input = self.beside = NEVER
        if counts.TELL and not _are_immutable(map(type, events[:8])):
            others = min(map(getrefcount, events)) - LISTED
            self._input, self.beside = counts.INPUT + others, counts.BESIDE + others

    def results(self, given: Iterable[Any], inputs: Inputs) -> Iterator[Any]:
        """Do as `each` for the results of a handler."""

        def of_type(cls: type, group: Iterator[Any]) -> Iterator[Any]:
            return group if cls in IMMUTABLE else map(self._own_result, group, inputs(1))

        return chain.from_iterable(starmap(of_type, groupby(chain(given), type)))

    def _own_result(self, given: Any, event: Any) -> Any:
        alone = getrefcount(given) <= (self._input if given is event else RESULT)
        if type(given) is dict and not is_tracked(given):
            for value in given.values():
                if type(value) not in IMMUTABLE:
                    value = None
                    break
            else:
                return given if alone else given.copy()
        if self._is_own(given, alone):
            return given
        if given is not event and getrefcount(event) <= self.beside:
            held = self.parts_of(event)
            alone = getrefcount(given) - held[id(given)] <= RESULT
            if held and self._is_own(given, alone, held):
                return given
        return self._copied(given)

    def parts_of(self, event: Any) -> Counter[int]:
        """Return how often each object is referred to inside an event, by its id."""
        found: Counter[int] = Counter()
        level = [event]
        while level:
            parts = get_referents(*[part for part in level if self._kind(type(part)) in _WALKED])
            level = []
            for part in parts:
                if type(part) not in IMMUTABLE:
                    found[id(part)] += 1
                    if found[id(part)] == 1:
                        level.append(part)
            if len(found) > _MOST_PARTS:
                return Counter()
        return found

    # -- many at once -------------------------------------------------------------------------------------------

    def all_of(self, given: Sequence[Any], *, alone: bool, held: Held | None = None) -> list[Any]:
        """Return a sequence of events as a list of owned ones; `alone` is whether nobody else refers to the sequence.

        `held` says how often the engine itself refers to the sequence or its events. Nothing runs between the events, so
        they are looked at together, and copied together.
        """
        events = given if type(given) is list and alone else list(given)
        if _are_immutable(map(type, events)):
            return events
        references = list(map(getrefcount, events))
        most = LISTED if events is given else LISTED + 1
        is_plain = counts.TELL and type(given) in (list, tuple)
        are_dicts = alone and is_plain and _DICT.issuperset(map(type, events)) and max(references) <= most
        if are_dicts and _are_immutable(map(type, get_referents(*events))):
            return events
        foreign = self._foreign(events, references, most if alone and is_plain else NEVER)
        if foreign and is_plain and held is not None:
            known = held()
            if alone or getrefcount(given) - known.get(id(given), 0) <= counts.PASSED:
                references = [count - known.get(id(part), 0) for count, part in zip(references, events, strict=True)]
                foreign = self._foreign(events, references, most, known)
        if len(foreign) == 1:
            events[foreign[0]] = self._copied(events[foreign[0]])
        elif foreign:
            for at, copied in zip(foreign, self._copies([events[at] for at in foreign]), strict=True):
                events[at] = copied
        return events

    def inputs_held(self, batch: Sequence[Any]) -> Held | None:
        """Return how often the engine refers to each input of a batch, which nobody has seen yet."""
        if not counts.TELL or _are_immutable(map(type, batch)):
            return None
        times = min(map(getrefcount, batch)) - LISTED + 1
        ids = list(map(id, batch))
        return lambda: dict.fromkeys(ids, times)

    def _foreign(
        self, events: list[Any], references: list[int], most: int, held: Mapping[int, int] | None = None
    ) -> list[int]:
        """Return the positions of those events that somebody else can change, from the references of each."""
        return [
            at
            for at, event in enumerate(events)
            if type(event) not in IMMUTABLE and not self._is_own(event, references[at] <= most, held)
        ]

    # -- the rule -----------------------------------------------------------------------------------------------

    def owned(self, event: Any, alone: bool) -> Any:
        return event if self._is_own(event, alone) else self._copied(event)

    def _copied(self, event: Any) -> Any:
        if event is self._uncopied:
            return event
        kind = self._kind(type(event))
        if kind is Mutability.ARRAY and not event.dtype.hasobject:
            return event.copy(order="K")
        if kind is Mutability.FUNCTION:
            return copied_function(event, self._copied_value)
        if type(event) in (tuple, list) and any(type(part) is FunctionType for part in event):
            return type(event)(map(self._copied_value, event))
        copied = self._copies([event])[0]
        if copied is event:
            if hasattr(type(event), "__next__"):
                raise view_error(type(event), type(event), self._what)
            self._uncopied = event
        return copied

    def _copied_value(self, value: Any) -> Any:
        """Return a copy of what is not the event itself: what a function has captured, or what is beside it."""
        if type(value) in IMMUTABLE or (type(value) is FunctionType and not captures(value)):
            return value
        return self._copied(value)

    def _is_own(self, event: Any, alone: bool, held: Mapping[int, int] | None = None) -> bool:
        """Whether nobody else can change an event, if it is known whether anybody else refers to it.

        `held` says how often its parts are referred to by what is the engine's. Raises `NotGiven` for a view that is given
        with it; what objects of the user's have inside is theirs.
        """
        kind = self._kind(type(event))
        is_own = self._is_settled(event, kind, alone, type(event))
        if kind not in _WALKED:
            return is_own
        parts = get_referents(event)
        if _are_immutable(map(type, parts)):
            return is_own
        outer: type | None = type(event) if is_record(type(event)) else None
        seen, pending = {id(event)}, []
        while True:
            records: list[Any] = []
            inside: list[Any] = []
            for part in parts:
                if type(part) in IMMUTABLE or id(part) in seen:
                    continue
                count = getrefcount(part)
                seen.add(id(part))
                if held is not None:
                    count -= held.get(id(part), 0)
                if type(part) in _PLAIN:
                    is_own = is_own and count <= REFERENT
                    records.append(part)
                    continue
                kind = self._kind(type(part))
                # What is below is looked at for views even if it is to be copied.
                is_own = self._is_settled(part, kind, is_own and count <= REFERENT, outer) and is_own
                if kind in _WALKED:
                    (records if is_record(type(part)) else inside).append(part)
            part = None  # a reference of this variable would count
            if records:
                pending.append((records, outer))
            if inside and is_own:
                pending.append((inside, None))
            if not pending:
                return is_own
            holders, outer = pending.pop()
            parts = get_referents(*holders)

    def _is_settled(self, part: Any, kind: Mutability, alone: bool, outer: type | None) -> bool:
        """Whether nobody else can change a part itself.

        Raises `NotGiven` for one that is a view or has yet to be run, and is given with an event of type `outer`.
        """
        if kind is Mutability.HOLDER or kind is Mutability.BUFFER:
            return alone
        if kind is Mutability.LEAF:
            return True
        if kind is Mutability.FROZEN:
            return alone or is_frozen(part, self._kind)
        if kind is Mutability.ARRAY:
            return alone and has_own_memory(part)
        if kind is Mutability.FUNCTION:
            return not captures(part)
        if kind is Mutability.MATCH and type(part.string) in IMMUTABLE:
            return True
        if kind is Mutability.VIEW and self._files and is_file(type(part)):
            return True
        if outer is not None and kind in (Mutability.VIEW, Mutability.MATCH):
            raise view_error(type(part), outer, self._what)
        if outer is not None and kind is Mutability.UNRUN:
            raise unrun_error(part, self._what)
        return False


_RULES: dict[type, Callable[[Ownership, Any], Any]] = {dict: Ownership._own_dict, tuple: Ownership._own_tuple}


def copied_function(function: Any, copied: Callable[[Any], Any]) -> Any:
    """Return a function that has captured copies of what another one has captured, and shares the rest with it."""
    cells = tuple(CellType() for _ in function.__closure__ or ())
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    functools.update_wrapper(made, function)
    del made.__wrapped__  # type: ignore[attr-defined]  # it is no wrapper
    made.__kwdefaults__ = function.__kwdefaults__
    for cell, original in zip(cells, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            value = original.cell_contents
            cell.cell_contents = made if value is function else copied(value)
    return made


def is_alone(given: Any) -> bool:
    """Whether nobody but the caller, who has it in a variable, refers to what user code gave."""
    return getrefcount(given) <= CALLED
