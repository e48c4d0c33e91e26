"""The tables of the queue and of the schedules."""

from cronqueue.migrations import scripts

revision = "0001"
down_revision = None


def upgrade() -> None:
    scripts.run("0001_initial")
