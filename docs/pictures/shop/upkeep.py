"""So that it stays well."""

from cronsched import daily, every


@daily(at="02:30", timeout="1h", priority=-10, description="A copy of the database")
def backup() -> None:
    """To another house."""


@daily(at="11:00", priority=-10, description="Pictures that no product shows")
def prune_images() -> None:
    """Older than a month."""


@every("15m", description="Certificates, disks, backups")
def look_around() -> None:
    """Says so when something runs out."""
