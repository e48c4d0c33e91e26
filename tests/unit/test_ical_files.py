"""Calendar files: what they exclude, and what is refused with its line."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from cronqueue.errors import DefinitionError
from cronsched.ical_files import read_ical

HOLIDAYS = """\ufeffBEGIN:VCALENDAR\r
VERSION:2.0\r
BEGIN:VTIMEZONE\r
TZID:Europe/London\r
BEGIN:DAYLIGHT\r
DTSTART:19810329T010000\r
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\r
END:DAYLIGHT\r
END:VTIMEZONE\r
BEGIN:VEVENT\r
DTSTART;VALUE=DATE:20261225\r
DTEND;VALUE=DATE:20261227\r
SUMMARY:Christmas\\, with a line\r
  that goes on and on: to the next\r
BEGIN:VALARM\r
TRIGGER:-PT15M\r
DURATION:PT5M\r
END:VALARM\r
END:VEVENT\r
BEGIN:VEVENT\r
dtstart;value=date:20270101\r
TRANSP:TRANSPARENT\r
END:VEVENT\r
BEGIN:VEVENT\r
DTSTART;VALUE=DATE:20270501\r
STATUS:CANCELLED\r
END:VEVENT\r
END:VCALENDAR\r
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "some.ics"
    path.write_text(text, "utf-8", newline="")
    return path


def event(*lines: str) -> str:
    return "\n".join(["BEGIN:VCALENDAR", "BEGIN:VEVENT", *lines, "END:VEVENT", "END:VCALENDAR"])


def test_all_day_events_are_dates_and_their_end_is_not_among_them(tmp_path: Path) -> None:
    dates, events = read_ical(written(tmp_path, HOLIDAYS))
    assert dates == [date(2026, 12, 25), date(2026, 12, 26), date(2027, 1, 1)]
    assert events == []


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (
            "DTSTART:20260701T080000Z",
            "DTEND:20260701T093000Z",
            (datetime(2026, 7, 1, 8, tzinfo=UTC), datetime(2026, 7, 1, 9, 30, tzinfo=UTC)),
        ),
        (
            "DTSTART;TZID=America/New_York:20260701T080000",
            'DTEND;TZID="/America/New_York":20260702T000000',
            (datetime(2026, 7, 1, 12, tzinfo=UTC), datetime(2026, 7, 2, 4, tzinfo=UTC)),
        ),
        (
            "DTSTART:20260701T080000",
            "DTEND:20260701T090000",
            (datetime(2026, 7, 1, 8), datetime(2026, 7, 1, 9)),  # noqa: DTZ001 - the schedule's clock
        ),
    ],
)
def test_other_events_are_stretches_of_time(
    tmp_path: Path, start: str, end: str, expected: tuple[datetime, datetime]
) -> None:
    assert read_ical(written(tmp_path, event(start, end))) == ([], [expected])


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["DTSTART;VALUE=DATE:20261225", "RRULE:FREQ=YEARLY"], "4: the event repeats by a rule"),
        (["DTSTART;VALUE=DATE:20261225", "RDATE:20271225"], "4: the event repeats"),
        (["DTSTART:20261225T090000Z", "DURATION:PT1H"], "4: the event has a DURATION"),
        (["DTSTART:20261225T090000Z"], "3: the event has no DTEND"),
        (["DTSTART:tomorrow"], "3: 'tomorrow' is not a time such as 20261225T090000"),
        (["DTSTART:20261325"], "3: '20261325' is not a time"),
        (["DTSTART:20261225", "DTEND:20261225"], "3: the event does not end after its start"),
        (
            ["DTSTART:20261225", "DTEND:20261226T000000Z"],
            "3: the event does not end after its start",
        ),
        (["DTSTART:20261225T000000", "DTEND:20261226T000000Z"], "3: the event does not end"),
        (["DTSTART;TZID=Romance Standard Time:20261225T090000"], "is not a known time zone"),
        (["DTSTART:20000101", "DTEND:20990101"], "3: more than 10000 days"),
        (["SUMMARY:without a time"], "there is no event in it"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, lines: list[str], complaint: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        read_ical(written(tmp_path, event(*lines)))
    assert complaint in str(caught.value)
    assert "some.ics" in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read"):
        read_ical(tmp_path / "missing.ics")
    (tmp_path / "some.ics").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DefinitionError, match="cannot be read"):
        read_ical(tmp_path / "some.ics")
