"""Freeze windows compare instants: a change of the clocks opens and shuts none of them early or late."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_sdk import ConfigurationError, Freeze


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


BERLIN, NEW_YORK, SANTIAGO, LORD_HOWE = "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe"


@pytest.mark.parametrize(
    ("freeze", "opens", "shuts"),
    [
        # Clocks are set back by an hour within the window: it lasts an hour longer, and does not open for the second 02:xx.
        (Freeze("16:00", "08:00", days=("sat",), zone=BERLIN), "2026-10-24T14:00", "2026-10-25T07:00"),
        (Freeze("16:00", "08:00", days=("sat",), zone=NEW_YORK), "2026-10-31T20:00", "2026-11-01T13:00"),
        # It starts in the hour that exists twice, ends in it, or lies in it.
        (Freeze("02:30", "04:00", days=("sun",), zone=BERLIN), "2026-10-25T00:30", "2026-10-25T03:00"),
        (Freeze("00:00", "02:30", days=("sun",), zone=BERLIN), "2026-10-24T22:00", "2026-10-25T01:30"),
        (Freeze("02:30", "02:45", days=("sun",), zone=BERLIN), "2026-10-25T00:30", "2026-10-25T01:45"),
        # It ends where the hour begins that exists twice, and where it is over.
        (Freeze("01:00", "03:00", days=("sun",), zone=BERLIN), "2026-10-24T23:00", "2026-10-25T02:00"),
        # Clocks are set forward within the window: it is an hour shorter.
        (Freeze("16:00", "08:00", days=("sat",), zone=BERLIN), "2026-03-28T15:00", "2026-03-29T06:00"),
        (Freeze("01:30", "03:30", days=("sun",), zone=BERLIN), "2026-03-29T00:30", "2026-03-29T01:30"),
        # It starts, or ends, in the hour that does not exist: when the clocks change.
        (Freeze("02:30", "05:00", days=("sun",), zone=BERLIN), "2026-03-29T01:00", "2026-03-29T03:00"),
        (Freeze("01:00", "02:30", days=("sun",), zone=BERLIN), "2026-03-29T00:00", "2026-03-29T01:00"),
        # Clocks that change at midnight, or by half an hour.
        (Freeze("00:00", "06:00", days=("sun",), zone=SANTIAGO), "2026-09-06T04:00", "2026-09-06T09:00"),
        (Freeze("23:30", "01:00", days=("sat",), zone=SANTIAGO), "2026-04-05T02:30", "2026-04-05T05:00"),
        (Freeze("01:45", "03:00", days=("sun",), zone=LORD_HOWE), "2026-04-04T14:45", "2026-04-04T16:30"),
        # Dates: with the zone's own hours, with offsets that have no second occurrence, and a mixture.
        (Freeze("2026-10-25T02:30", "2026-10-25T04:00", zone=BERLIN), "2026-10-25T00:30", "2026-10-25T03:00"),
        (Freeze("2026-10-24", "2026-10-26", zone=BERLIN), "2026-10-23T22:00", "2026-10-25T23:00"),
        (Freeze("2026-10-25T02:30+01:00", "2026-10-25T02:45+01:00", zone=BERLIN), "2026-10-25T01:30", "2026-10-25T01:45"),
        (Freeze("2026-10-25T02:30+02:00", "2026-10-25T02:30", zone=BERLIN), "2026-10-25T00:30", "2026-10-25T01:30"),
        (Freeze("2026-03-29T02:30", "2026-03-29T06:00+02:00", zone=BERLIN), "2026-03-29T01:00", "2026-03-29T04:00"),
    ],
    ids=str,
)  # fmt: skip
def test_a_window_opens_and_shuts_to_the_second_across_a_change_of_the_clocks(freeze, opens, shuts):
    opens_s, shuts_s = utc(opens), utc(shuts)
    inside = [opens_s + minute * 60 for minute in range(int((shuts_s - opens_s) // 60))]
    assert [True] == sorted({freeze.holds(moment) for moment in (*inside, shuts_s - 1)})
    assert [False] == sorted({freeze.holds(moment) for moment in (opens_s - 3600, opens_s - 1, shuts_s, shuts_s + 3600)})


def test_a_window_of_an_hour_that_does_not_exist_that_day_does_not_hold_on_it():
    freeze, day = Freeze("02:15", "02:45", days=("sun",), zone=BERLIN), utc("2026-03-29")
    assert {False} == {freeze.holds(day + minute * 60) for minute in range(24 * 60)}
    assert freeze.holds(utc("2026-04-05T00:30"))


def test_a_dated_window_of_an_hour_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="ends before it starts"):
        Freeze("2026-03-29T02:15", "2026-03-29T02:45", zone=BERLIN)


def test_an_hour_of_a_weekly_window_has_no_offset_of_its_own():
    with pytest.raises(ConfigurationError, match="has an hour with an offset, which zone= determines"):
        Freeze("16:00+02:00", "18:00", days=("fri",), zone=BERLIN)


def test_the_default_zone_needs_no_database_of_time_zones(monkeypatch):
    monkeypatch.setattr("zoneinfo.ZoneInfo", None)
    assert Freeze("16:00", "18:00", days=("fri",)).holds(utc("2026-11-27T17:00"))


zones = st.sampled_from([BERLIN, NEW_YORK, SANTIAGO, LORD_HOWE, "UTC", "Asia/Kolkata", "Pacific/Apia"])
hours = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")


@given(zones, hours, hours, st.integers(int(utc("2011-12-28")) // 60, int(utc("2027-01-01")) // 60))
def test_whatever_the_clocks_do_a_window_holds_while_they_show_its_hours(zone, start, end, minute):
    """Every day has one, so what the clock shows decides alone; but for the hour that exists twice, which may hold longer."""
    now = datetime.fromtimestamp(60 * minute, UTC)
    holds = Freeze(start, end, days=("mon", "tue", "wed", "thu", "fri", "sat", "sun"), zone=zone).holds(now.timestamp())
    shown = now.astimezone(ZoneInfo(zone))
    clock = shown.strftime("%H:%M")
    inside = start <= clock < end if start < end else clock >= start or clock < end
    changes = {(now + timedelta(hours=hour)).astimezone(ZoneInfo(zone)).utcoffset() for hour in (-25, 0, 25)}
    assert holds == inside or (holds and len(changes) > 1)
