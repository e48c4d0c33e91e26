"""huey on SQLite: python -m benchmarks.peer_queues.huey_worker fill|work FILE COUNT."""

from __future__ import annotations

import sys
from importlib.metadata import version

from benchmarks.peer_queues.ticks import told
from huey import SqliteHuey


def main(verb: str, file: str, count: int) -> None:
    """Fill the file with so many jobs, or work until ended."""
    huey = SqliteHuey(filename=file, fsync=True, results=False)
    nothing = huey.task(name="nothing")(told(count))
    if verb == "fill":
        for _ in range(count):
            nothing()
    else:
        huey.create_consumer(workers=1, periodic=False).run()


if __name__ == "__main__":
    print(
        f"uses huey {version('huey')}; fsync=True, one worker thread, no results kept", flush=True
    )
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
