"""Occurrences that were written before there was a gate get theirs."""

from cronqueue.migrations import scripts

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    scripts.run("0002_gates")
