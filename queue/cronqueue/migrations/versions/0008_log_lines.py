"""Log lines: what jobs have said while they ran."""

from cronqueue.migrations import scripts

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    scripts.run("0008_log_lines")
