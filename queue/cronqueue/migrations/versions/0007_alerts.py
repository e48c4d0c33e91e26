"""Alerts: what has gone wrong, the messages about it, and who looks for it."""

from cronqueue.migrations import scripts

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    scripts.run("0007_alerts")
