"""Migrations are SQL files, one per database."""

from pathlib import Path

from alembic import op


def run(name: str) -> None:
    """Execute the statements of `versions/<name>.<dialect>.sql`."""
    script = Path(__file__).parent / "versions" / f"{name}.{op.get_context().dialect.name}.sql"
    for statement in script.read_text(encoding="utf-8").split(";\n"):
        if statement.strip():
            op.execute(statement.replace(":", "\\:"))
