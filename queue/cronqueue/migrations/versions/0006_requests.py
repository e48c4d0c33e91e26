"""Requests that are to enqueue once, however often they are sent."""

from cronqueue.migrations import scripts

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    scripts.run("0006_requests")
