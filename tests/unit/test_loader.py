"""Schedule files: everything that is wrong with any of them, at once, with file and line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest

from cronsched.loader import load, load_in_child
from cronsched.manifest import Manifest

GOOD = "from cronsched import hourly\n@hourly\ndef tick(): ...\n"

Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Write schedule files, text or bytes, into a folder that only we may write."""
    made = tmp_path / "files"
    made.mkdir()
    made.chmod(0o755)

    def write(**sources: str | bytes) -> Path:
        for stem, content in sources.items():
            path = made / f"{stem}.py"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(0o644)
        return made

    return write


def shown(manifest: Manifest) -> list[str]:
    """The faults without the folder's path."""
    return [f"{Path(fault.file).name}:{fault.line}: {fault.message}" for fault in manifest.faults]


def names(manifest: Manifest) -> list[str]:
    return [made.name for made in manifest.schedules]


def test_every_fault_of_every_file_is_told_at_once(folder: Folder) -> None:
    files = folder(
        bad_cron='from cronsched import cron\n@cron("61 * * * *")\ndef f(): ...\n',
        bad_zone='from cronsched import daily\n@daily(at="07:30", tz="Europe/Lonon")\ndef f(): ...\n',
        exits="import sys\nsys.exit(3)\n",
        good=GOOD,
        imports="\nimport nothing_of_this_name\n",
        option="from cronsched import hourly\n@hourly(prority=1, minute=99)\ndef f(): ...\n",
        syntax="def f(:\n",
        twice='from cronsched import hourly\n@hourly(name="good.tick")\ndef f(): ...\n',
    )
    found, remedy = load_in_child(files), "give one of them another name="
    assert shown(found) == [
        "bad_cron.py:2: schedule 'bad_cron.f': cron '61 * * * *', field 1 (minute): 61 is not within 0-59",
        "bad_zone.py:2: schedule 'bad_zone.f': tz 'Europe/Lonon' is not a known time zone:"
        " did you mean 'Europe/London'?",
        "exits.py:2: SystemExit: 3",
        f"good.py:2: schedule 'good.tick' is declared at {files}/twice.py:2 too: {remedy}",
        "imports.py:2: ModuleNotFoundError: No module named 'nothing_of_this_name'",
        "option.py:2: schedule 'option.f': minute 99: give a whole number from 0 to 59",
        "option.py:2: schedule 'option.f': option 'prority' is not known: did you mean 'priority'?",
        "syntax.py:1: SyntaxError: invalid syntax",
        f"twice.py:2: schedule 'good.tick' is declared at {files}/good.py:2 too: {remedy}",
    ]
    assert not found.complete
    assert load(files).faults == found.faults


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'x = "\xff"\n', "SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xff"),
        (b"x = 1\0\n", "source code string cannot contain null bytes"),
        (b"raise KeyboardInterrupt\n", "loading was ended by SIGINT"),
        (b"import os\nos._exit(0)\n", "loading ended with exit code 0"),
        (b"import os\nos.abort()\n", "loading was ended by SIGABRT"),
        (b"import ctypes\nctypes.string_at(0)\n", "loading was ended by SIGSEGV"),
    ],
)
def test_a_file_that_cannot_be_read_or_crashes_is_a_fault(
    folder: Folder, content: bytes, fault: str
) -> None:
    found = load_in_child(folder(bad=content, good=GOOD))
    assert any(fault in each.message for each in found.faults)


def test_a_file_that_crashes_is_named_with_its_line(folder: Folder) -> None:
    files = folder(bad="import ctypes\n\nctypes.string_at(0)\n", good=GOOD)
    assert shown(load_in_child(files)) == ["bad.py:3: loading was ended by SIGSEGV"]


def test_a_file_that_hangs_is_named_with_its_line(folder: Folder) -> None:
    files = folder(bad="import threading\n\nthreading.Event().wait()\n", good=GOOD)
    found = load_in_child(files, timeout=timedelta(seconds=1))
    assert shown(found) == ["bad.py:3: loading took longer than 1s"]
    assert found.faulty_sources == {f"{files}/bad.py"}


def test_a_file_that_hangs_and_keeps_the_alarm_from_ringing_is_ended_all_the_same(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronsched.loader._GRACE_SECONDS", 0.5)
    silent = "import faulthandler, threading\nfaulthandler.cancel_dump_traceback_later()\n"
    files = folder(bad=silent + "threading.Event().wait()\n")
    found = load_in_child(files, timeout=timedelta(seconds=1))
    assert [fault.message for fault in found.faults] == ["loading took longer than 1s"]


def test_a_loading_that_is_not_wanted_any_more_ends_at_once(folder: Folder) -> None:
    files = folder(bad="import threading\nthreading.Event().wait()\n")
    assert not load_in_child(files, timeout=timedelta(hours=1), is_stopped=lambda: True).complete


def test_what_files_print_start_and_fork_disturbs_nobody(folder: Folder) -> None:
    noisy = """
import os, sys, threading
print("out"); print("err", file=sys.stderr); sys.stdout.close()
threading.Thread(target=threading.Event().wait).start()
os.fork()
from cronsched import hourly
@hourly
def tick(): ...
"""
    found = load_in_child(folder(noisy=noisy))
    assert (names(found), shown(found)) == (["noisy.tick"], [])


def test_what_a_file_leaves_running_ends_with_the_loading(folder: Folder, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # The child that stays behind holds the pipe open: the reader's end comes when it is gone.
    lingering = (
        f"import subprocess\nsubprocess.Popen(['sleep', '1000'], stdout=open({str(pipe)!r}, 'w'))\n"
    )
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.DEVNULL)
    load_in_child(folder(lingering=lingering))
    assert reader.wait(60) == 0


def test_files_import_one_another_in_any_order_and_in_circles(folder: Folder) -> None:
    files = folder(
        a="from schedules import b\nfrom schedules import _helper\n" + GOOD,
        b="import schedules.a\n" + GOOD,
        _helper="raise_nothing = 1\n",
    )
    for found in (load_in_child(files), load(files), load(files)):
        assert (names(found), shown(found)) == (["a.tick", "b.tick"], [])


def test_a_file_that_fails_when_another_imports_it_does_not_clash_with_itself(
    folder: Folder,
) -> None:
    files = folder(a="from schedules import b\n" + GOOD, b=GOOD + "raise ValueError('no')\n")
    assert shown(load_in_child(files)) == ["a.py:1: ValueError: no", "b.py:4: ValueError: no"]


def test_one_line_that_declares_the_same_name_twice_clashes(folder: Folder) -> None:
    loop = """
from cronqueue import job
from cronsched import daily, schedule
@job
def work(): ...
for at in ("01:00", "02:00"):
    schedule(work, daily(at=at), name="same")
"""
    found = load_in_child(folder(loop=loop))
    assert names(found) == []
    assert [fault.line for fault in found.faults] == [7]


def test_an_empty_file_and_an_empty_folder_are_no_fault(folder: Folder) -> None:
    assert load_in_child(folder()) == Manifest((), (), ())
    found = load_in_child(folder(empty=""))
    assert (found.schedules, found.faults) == ((), ())
    assert [seen.name for seen in found.sources] == ["empty.py"]


def test_a_folder_that_is_missing_is_a_fault_unless_it_may_be(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    (fault,) = load_in_child(missing).faults
    assert "the schedules folder is missing: create it, or set SCHED_SCHEDULES" in fault.message
    assert load_in_child(missing, missing_ok=True).complete
    (tmp_path / "file").write_text("")
    assert "is not a folder" in load_in_child(tmp_path / "file").faults[0].message


def test_what_anybody_may_write_is_not_executed(folder: Folder, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    files = folder(bad=f"open({str(trace)!r}, 'w')\n", good=GOOD)
    (files / "bad.py").chmod(0o646)
    found = load_in_child(files)
    assert [fault.message for fault in found.faults] == [
        f"anybody may write it, so nothing here is executed: chmod o-w {files}/bad.py"
    ]
    (files / "bad.py").chmod(0o644)
    (files / "_helper.py").touch()
    (files / "_helper.py").chmod(0o666)
    assert not load_in_child(files).complete
    (files / "_helper.py").unlink()
    files.chmod(0o757)
    assert not load_in_child(files).complete
    assert not trace.exists()


def test_a_link_counts_as_the_file_it_points_to(folder: Folder, tmp_path: Path) -> None:
    files = folder()
    target = tmp_path / "elsewhere.py"
    target.write_text(GOOD)
    target.chmod(0o644)
    (files / "linked.py").symlink_to(target)
    assert names(load_in_child(files)) == ["linked.tick"]
    target.chmod(0o646)
    assert "anybody may write it" in load_in_child(files).faults[0].message
    target.unlink()
    (fault,) = load_in_child(files).faults
    assert fault.file == f"{files}/linked.py"
    assert "No such file" in fault.message


@pytest.mark.parametrize("make", [partial(os.mkdir, mode=0o755), partial(os.mkfifo, mode=0o644)])
def test_what_is_named_like_a_file_and_is_none_is_a_fault_of_its_own(
    folder: Folder, make: Callable[[Path], None]
) -> None:
    files = folder(good=GOOD)
    make(files / "odd.py")
    found = load_in_child(files)
    assert names(found) == ["good.tick"]
    assert [Path(fault.file).name for fault in found.faults] == ["odd.py"]


def test_what_we_may_not_read_is_a_fault(folder: Folder) -> None:
    files = folder(bad=GOOD, good=GOOD)
    (files / "bad.py").chmod(0o200)
    if os.access(files / "bad.py", os.R_OK):
        pytest.skip("this user may read everything")
    found = load_in_child(files)
    assert names(found) == ["good.tick"]
    assert "Permission denied" in found.faults[0].message
    files.chmod(0o300)
    try:
        assert f"cannot be read: chmod u+rx {files}" in load_in_child(files).faults[0].message
    finally:
        files.chmod(0o755)


def test_modules_are_loaded_too_and_own_what_they_declare(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "app_jobs_a.py").write_text(GOOD)
    (tmp_path / "app_jobs_b.py").write_text("import app_jobs_a\n1 / 0\n")
    found = load_in_child(folder(good=GOOD), ["app_jobs_a", "app_jobs_b", "app_jobs_c"])
    assert [(made.name, made.source) for made in found.schedules] == [
        ("app_jobs_a.tick", "app_jobs_a"),
        ("good.tick", "good.py"),
    ]
    assert [(fault.file, fault.message) for fault in found.faults] == [
        ("app_jobs_b", "ZeroDivisionError: division by zero"),
        ("app_jobs_c", "ModuleNotFoundError: No module named 'app_jobs_c'"),
    ]


def test_the_working_directory_is_importable(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "beside_the_folder.py").write_text("minute = 7\n")
    files = folder(
        a="from beside_the_folder import minute\nfrom cronsched import hourly\n"
        "@hourly(minute=minute)\ndef tick(): ...\n"
    )
    show = "from cronsched.loader import load_in_child; print(load_in_child('files').faults)"
    printed = subprocess.run(
        [sys.executable, "-c", show], cwd=files.parent, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "()\n"


def test_a_trigger_class_of_a_file_comes_out_of_the_child_with_its_answers(folder: Folder) -> None:
    text = """
        from datetime import UTC, datetime, timedelta
        from apscheduler.triggers.base import BaseTrigger
        from cronsched import on

        class Daily(BaseTrigger):
            def get_next_fire_time(self, previous, now):
                return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

        @on(Daily())
        def tick(): ...
    """
    (made,) = load_in_child(folder(a=dedent(text))).schedules
    (almanac,) = made.almanacs
    assert made.trigger.describe() == "by schedules.a.Daily"
    assert len(almanac.times) > 400
    assert {each.hour for each in almanac.times} == {0}
