"""Who brought the schedule files that are in force, and when a daemon last let go of them."""

from cronqueue.migrations import scripts

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    scripts.run("0004_deploys")
