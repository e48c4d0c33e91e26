"""Schedules that are looked after when they fail or miss: which, since when, and what was told."""

from cronqueue.migrations import scripts

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    scripts.run("0005_watched")
