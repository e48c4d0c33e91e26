"""Schedule files to a manifest: every schedule and every fault of every file at once.

`load` executes the files in this interpreter, `load_in_child` in a fresh one, where nothing is cached and a
file that crashes or hangs takes nobody along. `python -m cronsched.loader` is that child.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic

from cronqueue.imports import Fault, import_folder, import_modules, source_files
from cronsched.collecting import Collector, collecting
from cronsched.manifest import Manifest, SourceFile, make_manifest, source_file
from cronsched.splaying import share_out

PACKAGE = "schedules"
CHILD_TIMEOUT = timedelta(seconds=60)
# The child ends itself at the timeout and says where it hangs; this is for one that cannot even do that.
_GRACE_SECONDS = 5.0
# How soon a child is noticed that is not wanted any more.
_LOOK_SECONDS = 0.2
# The child's exit code when the files are loaded and there is no room for what they declare.
_NOT_WRITTEN = os.EX_IOERR
# What faulthandler prints of a child that hangs or crashes: the innermost call comes first.
_TIMED_OUT = "Timeout ("
_TRACED = re.compile(r'File "([^"]+)", line ([0-9]+)')


def load(
    folder: Path | str,
    modules: Iterable[str] = (),
    *,
    tz: str = "UTC",
    missing_ok: bool = False,
) -> Manifest:
    """What the files of the folder and the modules declare; never raises for what they do.

    `tz` is the zone of schedules that name none. A folder that is missing is a fault unless `missing_ok`,
    an empty one is not. A module that is imported already is not executed again: `load_in_child` does.
    """
    folder, modules = Path(folder), tuple(modules)
    faults = list(_unusable(folder, missing_ok))
    with collecting(folder, tz) as collector:
        if folder.is_dir() and not faults:
            _forget_package()
            absolute = import_folder(folder.absolute(), PACKAGE)
            faults += [_as_shown(fault, collector) for fault in absolute]
        faults += import_modules(modules)
    return make_manifest(
        share_out(collector.definitions.values()),
        [*faults, *collector.faults],
        _sources(folder, modules, collector),
    )


def load_in_child(
    folder: Path | str,
    modules: Iterable[str] = (),
    *,
    tz: str = "UTC",
    missing_ok: bool = False,
    timeout: timedelta = CHILD_TIMEOUT,
    is_stopped: Callable[[], bool] = bool,
) -> Manifest:
    """`load` in a fresh interpreter with this one's working directory and module path.

    A crash and a timeout become faults. What the files print goes nowhere. Once `is_stopped`, the
    loading is broken off, which is a fault too. Raises OSError where the machine is short of something:
    that is no fault of the files.
    """
    with tempfile.TemporaryDirectory(prefix="cronsched-") as scratch:
        result, output = Path(scratch, "manifest.json"), Path(scratch, "output")
        command = [sys.executable, "-m", "cronsched.loader", str(folder), *modules]
        command += ["--result", str(result), "--tz", tz, "--timeout", str(timeout.total_seconds())]
        if missing_ok:
            command.append("--missing-ok")
        longest = timeout.total_seconds() + _GRACE_SECONDS
        ending = _run(command, output, longest, is_stopped)
        if ending == 0 and result.exists():
            return Manifest.from_json(result.read_text("utf-8"))
        if ending == _NOT_WRITTEN:
            raise OSError(f"what the schedule files declare could not be written to {result}")
        printed = output.read_text("utf-8", "replace")
    return make_manifest((), [_fault_of_child(Path(folder), ending, printed, timeout)])


def main(arguments: Sequence[str] | None = None) -> None:
    """The child of `load_in_child`: writes the manifest to a file of its own."""
    parser = argparse.ArgumentParser(prog="python -m cronsched.loader")
    parser.add_argument("folder")
    parser.add_argument("modules", nargs="*")
    parser.add_argument(
        "--result", required=True, help="the file that receives the manifest as JSON"
    )
    parser.add_argument("--tz", default="UTC")
    parser.add_argument("--timeout", type=float, default=CHILD_TIMEOUT.total_seconds())
    parser.add_argument("--missing-ok", action="store_true")
    chosen = parser.parse_args(arguments)
    faulthandler.enable()
    faulthandler.dump_traceback_later(chosen.timeout, exit=True)
    pid = os.getpid()
    manifest = load(chosen.folder, chosen.modules, tz=chosen.tz, missing_ok=chosen.missing_ok)
    if os.getpid() == pid:  # a file may fork, and its child comes out here as well
        try:
            Path(chosen.result).write_text(manifest.to_json(), "utf-8")
        except OSError:
            os._exit(_NOT_WRITTEN)
    # Threads that the files have started must not keep us.
    os._exit(0)


def _unusable(folder: Path, missing_ok: bool) -> Iterable[Fault]:
    """Why nothing of the folder can be executed."""
    if not folder.exists():
        if not missing_ok:
            yield Fault(
                str(folder),
                None,
                "the schedules folder is missing: create it, or set SCHED_SCHEDULES",
            )
        return
    if not folder.is_dir():
        yield Fault(
            str(folder),
            None,
            "is not a folder: SCHED_SCHEDULES names the folder of the schedule files",
        )
        return
    if not os.access(folder, os.R_OK | os.X_OK):
        yield Fault(str(folder), None, f"cannot be read: chmod u+rx {folder}")


def _forget_package() -> None:
    """Files that were executed before are executed again."""
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]


def _as_shown(fault: Fault, collector: Collector) -> Fault:
    shown = collector.file_of_folder(fault.file)
    return fault if shown is None else Fault(str(shown), fault.line, fault.message)


def _sources(folder: Path, modules: Iterable[str], collector: Collector) -> list[SourceFile]:
    files = (
        [source_file(path.name, path) for path in source_files(folder)] if folder.is_dir() else []
    )
    known = {seen.name for seen in files}
    declaring = {made.source for made in collector.definitions.values()} - known
    for name in sorted(declaring | set(modules)):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is not None:
            files.append(source_file(name, Path(path)))
    return files


def _run(
    command: list[str], output: Path, timeout: float, is_stopped: Callable[[], bool]
) -> int | None:
    """The exit code; None where the child had to be ended."""
    until = monotonic() + timeout
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with output.open("wb") as printed:
        # A session of its own, so that what the files have started ends with it.
        child = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            while child.poll() is None and monotonic() < until and not is_stopped():
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_LOOK_SECONDS)
            return child.poll()
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait()


def _fault_of_child(folder: Path, ending: int | None, printed: str, timeout: timedelta) -> Fault:
    """What is known of a child without a result; for one that hung or crashed, the line it was at."""
    if ending is None or _TIMED_OUT in printed:
        words = f"loading took longer than {timeout.total_seconds():g}s"
    elif ending < 0:
        words = f"loading was ended by {signal.Signals(-ending).name}"
    else:
        words = f"loading ended with exit code {ending}{_last_line(printed)}"
    for path, line in _TRACED.findall(printed):
        if Path(path).parent == folder.absolute():
            return Fault(str(folder / Path(path).name), int(line), words)
    return Fault(str(folder), None, words)


def _last_line(printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


if __name__ == "__main__":
    main()
