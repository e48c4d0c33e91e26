"""The revisions of schedules are kept, so that every occurrence can be accounted for."""

from cronqueue.migrations import scripts

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    scripts.run("0003_revisions")
