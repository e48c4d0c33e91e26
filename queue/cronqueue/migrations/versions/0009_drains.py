"""Workers that are asked to leave: when."""

from cronqueue.migrations import scripts

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    scripts.run("0009_drains")
