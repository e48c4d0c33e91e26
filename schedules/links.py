"""Dead links in the project's own pages: checked every hour, without a network."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cronqueue import current_job
from cronsched import hourly

REPORT = Path("var/dead-links.txt")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")


@hourly(minute=5, description="Links of the Markdown files that lead nowhere")
def check(folder: str = ".") -> int:
    """Write the dead links to files into var/dead-links.txt; returns how many there are."""
    dead = [line for page in pages(Path(folder)) for line in dead_links(page)]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("".join(f"{line}\n" for line in dead), encoding="utf-8")
    current_job().logger.info("%d dead links, see %s", len(dead), REPORT)
    return len(dead)


def pages(folder: Path) -> list[Path]:
    """The Markdown files, those of hidden folders left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*.md"))
    return sorted(folder / path for path in found if not any(part[0] == "." for part in path.parts))


def dead_links(page: Path) -> list[str]:
    """The page's links to files that do not exist, as `page:line: target`."""
    lines = page.read_text(encoding="utf-8", errors="replace").splitlines()
    return [
        f"{page}:{number}: {target}"
        for number, line in enumerate(lines, 1)
        for target in LINK.findall(line)
        if is_dead(page.parent, target)
    ]


def is_dead(folder: Path, target: str) -> bool:
    """Only files are looked for: not what has a scheme or a host, nor a place in the same page."""
    parts = urlsplit(target)
    return not (parts.scheme or parts.netloc) and not (folder / unquote(parts.path)).exists()
