"""Freeze windows: times in which a rollout does not go forward by itself. Going back is always possible."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from attrs import field, frozen

from rollout_sdk.exceptions import ConfigurationError

__all__ = ["Freeze"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


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
        """Refuse a window that is none."""
        try:
            zone = ZoneInfo(self.zone)
            if self.days:
                time.fromisoformat(self.start), time.fromisoformat(self.end)
                unknown = [day for day in self.days if day not in _DAYS]
                if unknown:
                    raise _refused(self.start, self.end, f"has the day {unknown[0]!r:.20}, which is none of {', '.join(_DAYS)}")
            elif not _moment(self.start, zone) < _moment(self.end, zone):
                raise _refused(self.start, self.end, "ends before it starts")
        except (ValueError, KeyError, OSError, TypeError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise _refused(self.start, self.end, f"cannot be read ({error})") from None

    def holds(self, now_s: float) -> bool:
        """Whether the window is open at this time, in seconds since 1970."""
        zone = ZoneInfo(self.zone)
        now = datetime.fromtimestamp(now_s, zone)
        if not self.days:
            return _moment(self.start, zone) <= now < _moment(self.end, zone)
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        # A window that began yesterday may still be open.
        for day in (now.date(), now.date() - timedelta(days=1)):
            if _DAYS[day.weekday()] in self.days:
                last = day if end > start else day + timedelta(days=1)
                if datetime.combine(day, start, zone) <= now < datetime.combine(last, end, zone):
                    return True
        return False

    def __str__(self) -> str:
        """As a person would say it."""
        return f"{', '.join(self.days)} {self.start}-{self.end} {self.zone}" if self.days else f"{self.start} to {self.end}"


def _moment(text: str, zone: ZoneInfo) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
