"""Freeze windows: times in which a rollout does not go forward by itself. Going back is always possible."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Freeze"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# A window lasts a day at most, and a clock change moves its ends by hours: these days, counted from today, may have it open.
_NEAR = (1, 0, -1, -2)
_PRECISION_S = 1e-3


def _refused(start: object, end: object, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Freeze({start!r:.40}, {end!r:.40}) {why}. A freeze lasts from one date to another, or on some days of every week "
        "from one hour to another. Write Freeze('2026-12-20', '2027-01-04') or Freeze('16:00', '08:00', days=('fri',))."
    )


@frozen
class Freeze:
    """No step is taken in this window; a rollback is.

    Either once, from one date (and hour) to another, or every week on certain days: `Freeze("16:00", "08:00",
    days=("fri",), zone="Europe/Berlin")` holds from Friday afternoon to Saturday morning.

    A window lasts from the first moment at which the clocks of its zone show `start` to the last at which they show `end`. So
    where clocks are set back, and an hour exists twice, a window that starts in this hour starts in the first one, and a window
    that ends in it ends in the second one. Where clocks are set forward, and an hour does not exist, a window that starts or
    ends in it does so when the clocks change; a window that lies in this hour altogether does not hold on that day.

    Attributes:
        start: Date (and hour) in ISO 8601, or an hour "HH:MM" when there are `days`.
        end: The same; an hour that is not after `start` is the next day's.
        days: Days on which a weekly window begins: "mon" to "sun".
        zone: Time zone (IANA) of hours, and of dates without an offset.
    """

    start: str = field(converter=str)
    end: str = field(converter=str)
    days: tuple[str, ...] = field(default=(), kw_only=True, converter=tuple)
    zone: str = field(default="UTC", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse a window that cannot hold."""
        try:
            zone = _zone(self.zone)
            if self.days:
                if any(time.fromisoformat(each).tzinfo is not None for each in (self.start, self.end)):
                    raise _refused(self.start, self.end, "has an hour with an offset, which zone= gives")
                unknown = [day for day in self.days if day not in _DAYS]
                if unknown:
                    raise _refused(self.start, self.end, f"has the day {unknown[0]!r:.20}, which is none of {', '.join(_DAYS)}")
            elif not _first(_moment(self.start, zone)) < _last(_moment(self.end, zone)):
                raise _refused(self.start, self.end, "ends before it starts")
        except ZoneInfoNotFoundError as error:
            why = (
                f"cannot be read ({error}: an unknown zone, or a system without time zones, where the package tzdata has them)"
            )
            raise _refused(self.start, self.end, why) from None
        except (ValueError, KeyError, OSError, TypeError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise _refused(self.start, self.end, f"cannot be read ({error})") from None

    def holds(self, now_s: float) -> bool:
        """Whether the window is open at this time, in seconds since 1970."""
        zone = _zone(self.zone)
        if not self.days:
            return _first(_moment(self.start, zone)) <= now_s < _last(_moment(self.end, zone))
        today = datetime.fromtimestamp(now_s, zone).date()
        return any(self._holds_from(today + timedelta(days=near), zone, now_s) for near in _NEAR)

    def _holds_from(self, day: date, zone: tzinfo, now_s: float) -> bool:
        """Whether the weekly window that begins on this day is open."""
        if _DAYS[day.weekday()] not in self.days:
            return False
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        last = day if end > start else day + timedelta(days=1)
        return _first(datetime.combine(day, start, zone)) <= now_s < _last(datetime.combine(last, end, zone))

    def __str__(self) -> str:
        """As a person would say it."""
        return f"{', '.join(self.days)} {self.start}-{self.end} {self.zone}" if self.days else f"{self.start} to {self.end}"


def _zone(name: str) -> tzinfo:
    # The default works on a system without a database of time zones, too.
    return UTC if name == "UTC" else ZoneInfo(name)


def _moment(text: str, zone: tzinfo) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def _first(moment: datetime) -> float:
    """The first time at which clocks show this moment or a later one, in seconds since 1970."""
    return _instant(moment, fold=0)


def _last(moment: datetime) -> float:
    """The last time at which clocks show this moment; the change of the clocks that leaves it out."""
    return _instant(moment, fold=1)


def _instant(moment: datetime, *, fold: int) -> float:
    # Aware datetimes of one zone are compared by what the clock shows, so only seconds since 1970 tell which is first.
    first, second = moment.replace(fold=0).timestamp(), moment.replace(fold=1).timestamp()
    if first <= second:
        return second if fold else first
    # The clocks never show it: by the offset before the change, it comes after the change, and the other way round.
    assert moment.tzinfo is not None
    before, low, high = datetime.fromtimestamp(second, moment.tzinfo).utcoffset(), second, first
    while high - low > _PRECISION_S:
        middle = (low + high) / 2
        if datetime.fromtimestamp(middle, moment.tzinfo).utcoffset() == before:
            low = middle
        else:
            high = middle
    # Clocks change at a full second.
    return float(round(high))
