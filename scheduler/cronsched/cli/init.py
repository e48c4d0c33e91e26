"""`sched init`: a first project."""

from __future__ import annotations

from pathlib import Path

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.output import print_done, print_json

FILES = {
    "sched.toml": """\
# Settings of `sched`; `sched config show` prints them all.
database_url = "sqlite:///sched.db"
schedules = "schedules"
""",
    "schedules/hello.py": '''\
"""Every file of this folder is loaded by `sched daemon` and `sched worker`."""

from cronqueue import current_job, job
from cronsched import every


@every("10s")
def tick() -> None:
    current_job().logger.info("planned for %s", current_job().planned_for)


@job
def greet(name: str) -> str:
    return f"Hello, {name}!"
''',
}
NEXT = "next: sched up; in another terminal: sched enqueue hello.greet --args '[\"you\"]' --wait"


@click.command("init", cls=SchedCommand)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@pass_state
def command(state: State, folder: Path) -> None:
    """Write sched.toml and schedules/hello.py into FOLDER; what is there stays."""
    written, kept = [], []
    for name, text in FILES.items():
        path = folder / name
        if path.exists():
            kept.append(str(path))
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(str(path))
    lines = [*(f"wrote {path}" for path in written), *(f"{path} is there already" for path in kept)]
    for line in [*lines, NEXT]:
        if not state.as_json:
            print_done(state, line, None)
    if state.as_json:
        print_json({"written": written, "kept": kept})
