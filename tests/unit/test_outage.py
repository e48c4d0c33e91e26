"""How a service waits while its database is away, and what it says of it."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from cronqueue.errors import DatabaseUnreachable
from cronqueue.outage import Outage

LOG = logging.getLogger("cronqueue.test")
GONE = DatabaseUnreachable("cannot use the database: refused")


def test_pauses_double_up_to_the_longest_and_start_anew_after_a_success() -> None:
    outage = Outage(LOG, first=0.1, longest=0.5)
    pauses = []
    for second in range(4):
        outage.failed(GONE, now=second)
        pauses.append(outage.pause)
    outage.is_over(now=5)
    assert outage.pause == 0
    outage.failed(GONE, now=6)

    assert [*pauses, outage.pause] == [0.1, 0.2, 0.4, 0.5, 0.1]


def test_there_is_a_line_each_second_at_most_and_one_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage(LOG, first=0.1, longest=0.5)
    with caplog.at_level(logging.INFO):
        for tenth in range(20):
            outage.failed(GONE, now=10 + tenth / 10)
        outage.is_over(now=12)
        outage.is_over(now=13)

    assert [record.getMessage() for record in caplog.records] == [
        "the database is away, next try in 0.1 s: cannot use the database: refused",
        "the database is away, next try in 0.5 s: cannot use the database: refused",
        "the database is back after 2.0 s",
    ]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENOSPC, errno.ENOMEM])
def test_what_the_machine_is_short_of_is_told_in_one_line(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage(LOG, first=0.1, longest=0.5)
    with caplog.at_level(logging.INFO):
        outage.failed(OSError(number, os.strerror(number)), now=10)
        outage.is_over(now=11)

    assert not any(record.exc_info for record in caplog.records)
    assert [record.getMessage() for record in caplog.records] == [
        f"a turn failed, next try in 0.1 s: [Errno {number}] {os.strerror(number)}",
        "it goes on after 1.0 s",
    ]
