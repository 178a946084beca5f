"""Freeze windows: times in which a rollout takes no step by itself. Rollbacks are always possible."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Freeze"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# A window lasts at most a day, and clock changes move its ends by hours: only windows of these days can be open now.
_NEAR = (1, 0, -1, -2)
_PRECISION_S = 1e-3


def _refused(start: object, end: object, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Freeze({start!r:.40}, {end!r:.40}) {why}. A freeze lasts from one date to another, or on some days of every week "
        "from one hour to another. Write Freeze('2026-12-20', '2027-01-04') or Freeze('16:00', '08:00', days=('fri',))."
    )


@frozen
class Freeze:
    """A window in which no step is taken; rollbacks are.

    Either once, from one date (and hour) to another, or every week on certain days: `Freeze("16:00", "08:00",
    days=("fri",), zone="Europe/Berlin")` holds from Friday afternoon to Saturday morning.

    A window lasts from the first moment at which the clocks of its zone show `start` to the last at which they show `end`. So
    if clocks are set back and an hour occurs twice, a window that starts in this hour starts in the first one, and a window
    that ends in it ends in the second one. If clocks are set forward and an hour is skipped, a window that starts or ends in it
    does so when the clocks change; a window entirely within this hour does not hold on that day.

    Attributes:
        start: Date (and hour) in ISO 8601, or an hour "HH:MM" if there are `days`.
        end: As `start`; an hour that is not after `start` is on the next day.
        days: Days on which a weekly window starts: "mon" to "sun".
        zone: Time zone (IANA) of hours, and of dates without an offset.
    """

    start: str = field(converter=str)
    end: str = field(converter=str)
    days: tuple[str, ...] = field(default=(), kw_only=True, converter=tuple)
    zone: str = field(default="UTC", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Reject a window that can never hold."""
        from zoneinfo import ZoneInfoNotFoundError

        try:
            zone = _zone(self.zone)
            if self.days:
                if any(time.fromisoformat(each).tzinfo is not None for each in (self.start, self.end)):
                    raise _refused(self.start, self.end, "has an hour with an offset, which zone= determines")
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
        """Whether the weekly window that starts on this day is open."""
        if _DAYS[day.weekday()] not in self.days:
            return False
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        last = day if end > start else day + timedelta(days=1)
        return _first(datetime.combine(day, start, zone)) <= now_s < _last(datetime.combine(last, end, zone))

    def __str__(self) -> str:
        """Format the window for people."""
        return f"{', '.join(self.days)} {self.start}-{self.end} {self.zone}" if self.days else f"{self.start} to {self.end}"


def _zone(name: str) -> tzinfo:
    # UTC also works on a system without a time zone database.
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def _moment(text: str, zone: tzinfo) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def _first(moment: datetime) -> float:
    """Return the first time at which clocks show this moment or a later one, in seconds since 1970."""
    return _instant(moment, fold=0)


def _last(moment: datetime) -> float:
    """Return the last time at which clocks show this moment, or the clock change that skips it."""
    return _instant(moment, fold=1)


def _instant(moment: datetime, *, fold: int) -> float:
    # Aware datetimes of one zone compare by wall clock, so only seconds since 1970 tell which is first.
    first, second = moment.replace(fold=0).timestamp(), moment.replace(fold=1).timestamp()
    if first <= second:
        return second if fold else first
    # The moment is skipped: with the offset from before the change, it falls after the change, and vice versa.
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
