"""When limits begin anew: days, weeks and months of a time zone, through changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.ledger.accounts import FOREVER, span

BERLIN, NEW_YORK, AUCKLAND = "Europe/Berlin", "America/New_York", "Pacific/Auckland"
PERIODS = ("day", "week", "month")


def at(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("period", "zone", "moment", "name", "start", "end"),
    [
        ("day", "UTC", "2026-11-21 13:00", "2026-11-21", "2026-11-21", "2026-11-22"),
        ("day", BERLIN, "2026-11-21 00:00", "2026-11-21", "2026-11-21", "2026-11-22"),
        ("day", BERLIN, "2026-11-20 23:59:59.9", "2026-11-20", "2026-11-20", "2026-11-21"),
        ("week", BERLIN, "2026-11-22 23:59", "2026-W47", "2026-11-16", "2026-11-23"),
        ("week", BERLIN, "2026-11-23 00:00", "2026-W48", "2026-11-23", "2026-11-30"),
        ("week", "UTC", "2027-01-01 12:00", "2026-W53", "2026-12-28", "2027-01-04"),
        ("week", "UTC", "2024-12-30 12:00", "2025-W01", "2024-12-30", "2025-01-06"),
        ("month", "UTC", "2026-12-31 23:59", "2026-12", "2026-12-01", "2027-01-01"),
        ("month", "UTC", "2028-02-29 12:00", "2028-02", "2028-02-01", "2028-03-01"),
        ("month", NEW_YORK, "2026-11-01 01:30", "2026-11", "2026-11-01", "2026-12-01"),
        ("month", AUCKLAND, "2026-04-05 02:30", "2026-04", "2026-04-01", "2026-05-01"),
    ],
)
def test_windows_are_those_of_the_calendar(period, zone, moment, name, start, end):
    assert span(period, at(moment, zone), zone) == (name, at(start, zone), at(end, zone))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (BERLIN, "2026-03-29", 23),
        (BERLIN, "2026-10-25", 25),
        (NEW_YORK, "2026-03-08", 23),
        (NEW_YORK, "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("America/Sao_Paulo", "2018-11-04", 23),  # its clocks went forward at midnight: the day began at one
        ("UTC", "2026-03-29", 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_say(zone, day, hours):
    window = span("day", at(f"{day} 12:00", zone), zone)
    assert (window.name, (window.end - window.start) / 3600) == (day, hours)


def test_the_hour_that_comes_twice_is_of_one_day():
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()  # 02:30 summer time, and an hour later 02:30 again
    assert span("day", first, BERLIN) == span("day", first + 3600, BERLIN)


def test_one_moment_lies_in_the_days_of_two_zones():
    moment = at("2026-11-21 23:30", "UTC")
    assert (span("day", moment, "UTC").name, span("day", moment, BERLIN).name) == ("2026-11-21", "2026-11-22")


def test_a_limit_for_good_never_begins_anew():
    assert span("forever", 1e9, BERLIN) is FOREVER
    assert FOREVER.end == float("inf")


MOMENTS = st.floats(min_value=0, max_value=datetime(2099, 1, 1, tzinfo=UTC).timestamp())
ZONES = st.sampled_from([BERLIN, NEW_YORK, AUCKLAND, "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"])


@given(period=st.sampled_from(PERIODS), moment=MOMENTS, zone=ZONES)
def test_windows_follow_each_other_without_a_gap(period, moment, zone):
    window = span(period, moment, zone)
    assert window.start <= moment < window.end
    following, preceding = span(period, window.end, zone), span(period, window.start - 0.001, zone)
    assert following.start == window.end
    assert preceding.end == window.start
    assert len({window.name, following.name, preceding.name}) == 3
    assert window.end - window.start <= timedelta(days=31, hours=2).total_seconds()
