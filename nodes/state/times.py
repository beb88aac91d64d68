"""Event times and lengths of time as exact whole numbers, called ticks.

Decides how the user's times (numbers of any type, datetimes with or without a zone) become ticks, how ticks become the
bounds of windows again, and which times are refused. All arithmetic on times is done on ticks, so nothing of the
user's types can overflow, round or fail to advance, and clock changes of zones have no effect. A float means the decimal
number as which it is printed: 0.1 is a tenth.
"""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
import sys
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation
from fractions import Fraction
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from ..errors import GraphError, kind_of

#: A length of event time: seconds, milliseconds, whatever the times count, or a timedelta where they are datetimes.
Span: TypeAlias = int | float | Decimal | Fraction | timedelta
#: An event time.
Time: TypeAlias = int | float | Decimal | Fraction | datetime

MIXED = "event times with and without a zone, or numbers and datetimes, cannot be compared; let time= give one kind"

_NS = 1000
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
#: The ticks, in nanoseconds, of the first and the last datetime, and those that fit into 64 bits as pandas keeps them.
_DATETIMES = ((datetime.min - _EPOCH) // _MICROSECOND * _NS, (datetime.max - _EPOCH) // _MICROSECOND * _NS)
_TIMESTAMPS = (1000 - (1 << 63), (1 << 63) - 1)
#: Decimal exponents beyond this, which no float has, would make numbers of as many digits.
_MAX_EXPONENT = 400
_EXACT = Context(prec=2000, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[InvalidOperation, Inexact])
#: Ticks of sessions and times to live are this fine a part of their length, so that everyday times are whole.
_DIGITS = 11
#: Floats distinguish the bounds of a window up to this many lengths.
_FLOAT_LENGTHS = 1 << 50


class WallTime(int):
    """Ticks of a datetime without a zone."""

    __slots__ = ()


def check_span(where: str, span: Any, *, zero: bool = False) -> Any:
    """Return `span` if it is a finite number or timedelta above 0 (with `zero`, or 0). Raises `GraphError` otherwise."""
    try:
        ticks = _ticks_of(span) if isinstance(span, timedelta) else exact(span)
    except (TypeError, ValueError):
        raise GraphError(f"{where}: {reprlib.repr(span)} is no length of time; give a number or a timedelta") from None
    if ticks < 0 or (ticks == 0 and not zero):
        raise GraphError(f"{where}: {reprlib.repr(span)} is too short; make it {'0 or more' if zero else 'more than 0'}")
    return span


def exact(number: Any) -> Any:
    """Return the exact value of a number of any type: an int where it is whole, else a Fraction.

    Raises `TypeError` for what is not a number, and `ValueError` for one that is not finite or has an exponent beyond 400.
    """
    if isinstance(number, bool) or not isinstance(number, int | numbers.Real | Decimal):
        raise TypeError(f"{kind_of(number)} is no number")
    if isinstance(number, int):
        return int.__add__(number, 0)  # of a subclass too, whatever its own methods do
    if isinstance(number, numbers.Integral):
        return operator.index(number)
    value = _fraction(number)
    return value.numerator if value.denominator == 1 else value


def _fraction(number: Any) -> Fraction:
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ValueError("a float that is not finite is no time")
        return Fraction(int(number)) if number.is_integer() else Fraction(float.__repr__(number))
    if isinstance(number, Decimal):
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):
            raise ValueError("a Decimal that is not finite is no time")
        if abs(exponent) > _MAX_EXPONENT or abs(number.adjusted()) > _MAX_EXPONENT:
            raise ValueError("a Decimal with such an exponent is no time")
        return Fraction(number)
    if isinstance(number, numbers.Rational):
        return Fraction(int(number.numerator), int(number.denominator))
    if not math.isfinite(number):
        raise ValueError("a number that is not finite is no time")
    whole: Any = int(number)
    if whole == number:
        return Fraction(whole)
    try:
        return Fraction(str(number))  # a float of numpy, of any width
    except ValueError:
        return Fraction(*number.as_integer_ratio())


def _ticks_of(span: timedelta) -> int:
    """Return a length in nanoseconds; a Timedelta of pandas has them."""
    plain = timedelta(span.days, span.seconds, span.microseconds)
    return plain // _MICROSECOND * _NS + int(getattr(span, "nanoseconds", 0))


class TimeScale(Struct, frozen=True, kw_only=True):
    """How times become ticks, for one node with lengths of its own.

    With `grid` a time between two ticks becomes the lower one: the bounds of windows of one size are whole ticks, so
    nothing is lost. Else it stays a fraction, because the distance of two times matters.
    """

    clock: bool  #: whether times are datetimes; a tick is then a nanosecond
    per_unit: int  #: ticks in a unit of the times, where they are numbers
    grid: bool
    made: Any  #: the type of the bounds: int, float, Decimal, Fraction, datetime, or the Timedelta of pandas
    lowest: Any = None  #: the lowest time whose windows have bounds of that type
    highest: Any = None

    @staticmethod
    def of_grid(size: Any, slide: Any, lateness: Any) -> TimeScale:
        """Return the scale for windows of `size`, one of which begins every `slide`."""
        if isinstance(size, timedelta):
            scale = TimeScale(clock=True, per_unit=1, grid=True, made=_datetime_made(size, slide))
            first, last = _range_of(scale.made)
        else:
            per_unit = math.lcm(*(exact(span).denominator for span in (size, slide, lateness)))
            scale = TimeScale(clock=False, per_unit=per_unit, grid=True, made=_number_made(size, slide))
            if scale.made is not float:
                return scale
            last = _float_limit(min(exact(size), exact(slide)), per_unit)
            first = -last
        wide, step = scale.length(size), scale.length(slide)
        # The first window of a time begins at `first` or later, and its last one ends at `last` or before.
        lowest = (-(-first // step) - 1) * step + wide
        return replace(scale, lowest=lowest, highest=((last - wide) // step + 1) * step - 1)

    @staticmethod
    def of_distance(length: Any, *others: Any, bounds: bool) -> TimeScale:
        """Return the scale for sessions with a gap of `length`, or without `bounds` for a time to live."""
        if isinstance(length, timedelta):
            made = _datetime_made(length)
            first, last = _range_of(made) if bounds else (None, None)
            scale = TimeScale(clock=True, per_unit=1, grid=False, made=made, lowest=first)
        else:
            per_unit = math.lcm(*(exact(span).denominator for span in (length, *others)))
            per_unit *= 10 ** max(0, _DIGITS - int(exact(length)).bit_length() * 3 // 10)
            made = _number_made(length)
            last = _float_limit(exact(length), per_unit) if bounds and made is float else None
            scale = TimeScale(
                clock=False, per_unit=per_unit, grid=False, made=made, lowest=None if last is None else -last
            )
        return scale if last is None else replace(scale, highest=last - scale.length(length))

    def length(self, span: Any) -> int:
        """Return a length in ticks."""
        return _ticks_of(span) if isinstance(span, timedelta) else int(exact(span) * self.per_unit)

    def tick(self, time: Any) -> Any:
        """Return a time in ticks. Raises `TypeError` or `ValueError` for what is not a time of these lengths."""
        tick = self._datetime_tick(time) if self.clock else self._number_tick(time)
        if (self.lowest is not None and tick < self.lowest) or (self.highest is not None and tick > self.highest):
            raise ValueError(self._beyond())
        return tick

    def _datetime_tick(self, time: Any) -> int:
        if not isinstance(time, datetime):
            raise TypeError(f"time= gave {kind_of(time)}, but lengths of time are timedelta; let it give a datetime")
        if time != time:
            raise ValueError(f"time= gave {kind_of(time)}, which is not a time; take such events out before")
        # From its parts, as whole numbers: the first and last datetimes of a zone do not overflow, nor does pandas.
        wall = datetime(time.year, time.month, time.day, time.hour, time.minute, time.second, time.microsecond)
        ticks = (wall - _EPOCH) // _MICROSECOND * _NS + int(getattr(time, "nanosecond", 0))
        offset = time.utcoffset()
        return WallTime(ticks) if offset is None else ticks - _ticks_of(offset)

    def _number_tick(self, time: Any) -> Any:
        if isinstance(time, datetime):
            raise TypeError("time= gave a datetime, but lengths of time are numbers; give them as timedelta")
        try:
            ticks = exact(time) * self.per_unit
        except TypeError:
            raise TypeError(
                f"time= gave {kind_of(time)}; let it give a finite number, or a datetime with lengths as timedelta"
            ) from None
        except ValueError as error:
            raise ValueError(f"time= gave no finite number ({error}); take such events out before") from None
        if type(ticks) is int:
            return ticks
        if self.grid:
            return math.floor(ticks)
        return ticks.numerator if ticks.denominator == 1 else ticks

    def _beyond(self) -> str:
        if self.made is float:
            return (
                "time= gave a number so far from 0 that floats do not tell the bounds of its windows apart; give lengths"
                " that are int, Decimal or Fraction, or times nearer to 0"
            )
        name = "datetime" if self.made is datetime else "pandas.Timestamp"
        return (
            f"time= gave a datetime whose window has a bound that no {name} can be, because it is too early or too late;"
            " take such events out before"
        )

    def ticks(self, times: list[Any]) -> list[Any]:
        """Return many times in ticks, fast for the usual types."""
        types = set(map(type, times))
        found: list[Any]
        if not times:
            return times
        if self.clock and types == {datetime}:
            if times[0].tzinfo is None:
                found = [WallTime((time - _EPOCH) // _MICROSECOND * _NS) for time in times]
            else:
                found = [(time - _EPOCH_UTC) // _MICROSECOND * _NS for time in times]
        elif not self.clock and types == {int}:
            per_unit = self.per_unit
            found = times if per_unit == 1 else [time * per_unit for time in times]
        elif not self.clock and self.grid and self.per_unit == 1 and types <= {int, float}:
            found = list(map(math.floor, times))
        elif not self.clock and types == {float}:
            found = self._float_ticks(times)
        else:
            return list(map(self.tick, times))
        if self.lowest is not None and min(found) < self.lowest:
            raise ValueError(self._beyond())
        if self.highest is not None and max(found) > self.highest:
            raise ValueError(self._beyond())
        return found

    def _float_ticks(self, times: list[Any]) -> list[Any]:
        per_unit, multiply, grid = Decimal(self.per_unit), _EXACT.multiply, self.grid
        found: list[Any] = []
        for time in times:
            if time.is_integer():
                found.append(int(time) * self.per_unit)
                continue
            value = multiply(Decimal(repr(time)), per_unit)
            whole = math.floor(value)
            found.append(whole if grid or whole == value else Fraction(value))
        return found

    def bound(self, tick: Any, like: Any, *, end: bool = False) -> Any:
        """Return a bound of a window, in the type of its length or of datetimes; `like` is a time of the same stream.

        An aware one is in UTC. What is finer than the type can be is rounded outwards.
        """
        if not self.clock:
            return self._number(tick)
        epoch = _EPOCH if type(like) is WallTime else _EPOCH_UTC
        if self.made is not datetime:
            return self.made(int(tick), "ns") + epoch
        return epoch + timedelta(microseconds=-(-tick // _NS) if end else tick // _NS)

    def _number(self, tick: Any) -> Any:
        value = Fraction(tick, self.per_unit)
        if self.made is float:
            return float(value)
        if value.denominator == 1:
            return self.made(value.numerator)
        if self.made is Decimal:
            try:
                return _EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))
            except Inexact:
                return value
        if self.made is Fraction or value.numerator.bit_length() - value.denominator.bit_length() > 60:
            return value
        number = float(value)
        return number if exact(number) == value else value


def _datetime_made(*spans: timedelta) -> Any:
    """Return what makes the bounds of windows: datetimes, or where a length is a Timedelta of pandas, its Timestamps."""
    return next((type(span) for span in spans if hasattr(span, "nanoseconds")), datetime)


def _number_made(*spans: Any) -> Any:
    for made in (float, Decimal, Fraction):
        if any(isinstance(span, made) or (made is float and not _plain(span)) for span in spans):
            return made
    return int


def _plain(span: Any) -> bool:
    return isinstance(span, numbers.Rational | Decimal)


def _range_of(made: Any) -> tuple[int, int]:
    return _DATETIMES if made is datetime else _TIMESTAMPS


def _float_limit(length: int | Fraction, per_unit: int) -> int:
    """Return the tick up to which floats distinguish the bounds of windows of a length."""
    return int(min(length * _FLOAT_LENGTHS, int(sys.float_info.max)) * per_unit)


class TimeCheck(Struct, frozen=True):
    """Turns the times of many events into ticks, and finds the first that is none."""

    scale: TimeScale

    def __call__(self, times: list[Any]) -> tuple[int, Exception] | None:
        """Replace times by ticks; return the position of the first invalid time and the error for it, if there is one."""
        try:
            times[:] = self.scale.ticks(times)
        except Exception:  # which one it is, is found one by one
            for at, time in enumerate(times):
                try:
                    times[at] = self.scale.tick(time)
                except Exception as error:
                    return at, error.with_traceback(None)
        return None
