"""Crontabs, read as cron reads them and written as schedule files: nothing is dropped in silence."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import debian_cron
from cronsched.crontab_code import code_of
from cronsched.crontabs import Entry, read_crontab
from cronsched.loader import load_in_child
from cronsched.manifest import Manifest

LINES = (
    "*/15 * * * *",
    "0 0 1 * *",
    "30 2 * * *",
    "5 1-3 * * 0",
    "17 */2 * * 1-5",
    "0 9,17 1-7 3,10 2",
    "0 4 */2 * 3",
    "59 23 31 12 *",
)


def one(text: str, *, has_users: bool = False) -> Entry:
    (entry,) = read_crontab(text, has_users=has_users).entries
    return entry


def faults(text: str, *, has_users: bool = False) -> list[tuple[int, str]]:
    found = read_crontab(text, has_users=has_users)
    return [(each.line, each.words) for each in found.remarks if each.is_entry]


def code(text: str, *, has_users: bool = False) -> str:
    return code_of(read_crontab(text, has_users=has_users), origin="crontab", tz="UTC")


def loaded(source: str, folder: Path) -> Manifest:
    folder.mkdir(mode=0o755)
    path = folder / "crontab.py"
    path.write_text(source)
    path.chmod(0o644)
    return load_in_child(folder)


@pytest.mark.parametrize("tz", ["UTC", "Europe/London", "America/New_York"])
def test_the_schedules_are_due_when_cron_ran_the_lines(tz: str, tmp_path: Path) -> None:
    text = "".join(f"{line} /bin/job-{number}\n" for number, line in enumerate(LINES))
    found = loaded(code(f"CRON_TZ={tz}\n{text}"), tmp_path / "files")
    assert found.faults == ()
    schedules = sorted(found.schedules, key=lambda each: each.line or 0)
    # A change of the clock of each zone lies in both.
    for day in (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 10, 20, tzinfo=UTC)):
        end = day + timedelta(days=35)
        steps = debian_cron.wake_ups(tz, day - timedelta(days=1), end)
        for line, schedule in zip(LINES, schedules, strict=True):
            meant = debian_cron.runs(debian_cron.Expression.read(line), steps)
            times = list(schedule.trigger.between(day, end))
            assert times == [time for time in meant if time >= day], line


@pytest.mark.parametrize(
    ("written", "command", "stdin"),
    [
        ("a b  c ", "a b  c", ""),
        ("date +\\%d", "date +%d", ""),
        ("mail ann%Hello%you", "mail ann", "Hello\nyou\n"),
        ("cat%100\\% of\\n it\\", "cat", "100% of\\n it\\\n"),
        ("cat%%", "cat", "\n"),
        ("echo \\\\%in", "echo \\\\", "in\n"),
        ("echo %", "echo ", ""),
        ("echo '#' # no remark", "echo '#' # no remark", ""),
    ],
)
def test_a_percent_sign_is_what_it_is_to_cron(written: str, command: str, stdin: str) -> None:
    entry = one(f"* * * * * {written}\n")
    assert (entry.command.rstrip(), entry.stdin) == (command.rstrip(), stdin)


def test_variables_hold_for_the_lines_below_them() -> None:
    first, second, third = read_crontab(
        "* * * * * one\n A = ' x ' \nPATH=\"/bin:$HOME\"\n* * * * * two\nA=y z\t\n* * * * * three",
        has_users=False,
    ).entries
    assert first.environment == ()
    assert second.environment == (("A", " x "), ("PATH", "/bin:$HOME"))  # $HOME is not expanded
    assert third.environment == (("A", "y z"), ("PATH", "/bin:$HOME"))


def test_a_zone_holds_for_the_lines_below_it_and_a_wrong_one_for_none() -> None:
    text = "0 1 * * * a\nCRON_TZ=Europe/London\n0 1 * * * b\nCRON_TZ=Nowhere\n0 1 * * * c\n"
    found = read_crontab(text, has_users=False)
    assert [(each.command, each.tz) for each in found.entries] == [
        ("a", None),
        ("b", "Europe/London"),
    ]
    assert [(each.line, each.is_entry) for each in found.remarks] == [(4, False), (5, True)]


def test_a_crontab_of_the_system_has_a_column_for_the_user() -> None:
    text = "17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly\n"
    entry = one(text, has_users=True)
    assert (entry.user, entry.command) == ("root", "cd / && run-parts --report /etc/cron.hourly")
    (remark,) = read_crontab(text, has_users=True).remarks
    assert (remark.line, remark.is_entry) == (1, False)
    assert "root" in remark.words
    assert one("@daily root /bin/x", has_users=True).user == "root"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("@reboot /bin/x", "@reboot"),
        ("*/90 * * * * /bin/x", "step 90"),
        ("61 * * * * /bin/x", "minute"),
        ("0 0 30 2 * /bin/x", "never"),
        ("H H * * * /bin/x", "cron does not know"),
        ("0 0 * * fri#2 /bin/x", "cron does not know"),
        ("0 0 L * * /bin/x", "cron does not know"),
        ("* * * *", "4 fields"),
        ("* * * * *", "no command"),
        ("* * * * * %only input", "no command"),
        ("rubbish", "1 fields"),
        ("* * * * * a\0b", "no text"),
        ("* * * * * a\udcffb", "no text"),
        ("0-59~3 * * * * x", "minute"),
    ],
)
def test_what_cannot_be_carried_over_is_named_with_its_line(line: str, word: str) -> None:
    text = f"# a remark\n\n{line}\n* * * * * good\n{line}\n"
    (number, words), (last, _) = faults(text)
    assert (number, last) == (3, 5)
    assert word in words
    left_out = re.findall(r"^# NOT CARRIED OVER, line (\d+): ", code(text), re.MULTILINE)
    assert left_out == ["3", "5"]


def test_mail_is_named_and_its_being_off_is_not() -> None:
    found = read_crontab('MAILTO=""\nMAILTO=ann\n* * * * * x\n', has_users=False)
    assert [each.line for each in found.remarks] == [2]
    assert found.entries[0].environment == ()


def test_remarks_of_people_stay_above_their_lines() -> None:
    source = code("# nightly: \x07 bell\r\n#\n0 1 * * * /bin/a\r\n@daily /bin/b\n# the end\n")
    assert "# nightly: \\x07 bell\n#\n# line 3\n@cron(" in source
    assert source.count("nightly") == 1
    assert source.endswith("# the end\n")


def test_functions_are_called_after_what_they_run() -> None:
    commands = {
        "/usr/local/bin/backup.sh --all": "backup",
        "cd /srv/app && ./manage.py clearsessions": "manage",
        "[ -x /usr/sbin/rotate ] && /usr/sbin/rotate": "rotate",
        "A=b nice -n 10 python3 /srv/report-daily.py": "report_daily",
        "/usr/bin/import x": "import_job",
        "$(echo x)": "command",
        "shell": "shell_2",
        "/bin/backup": "backup_2",
    }
    source = code("".join(f"* * * * * {each}\n" for each in commands))
    assert [line[4:-11] for line in source.splitlines() if line.endswith("() -> None:")] == list(
        commands.values()
    )


def test_what_it_runs_is_run_as_cron_does(tmp_path: Path) -> None:
    text = (
        f'HOME={tmp_path}\nWHO=it\'s "me"\n'
        '* * * * * cat > out; echo "$WHO" "$SHELL" "$SCHED_DATABASE_URL" >> out%line one%line two\n'
        "* * * * * exit 3\n"
    )
    path = tmp_path / "made.py"
    path.write_text(code(text).replace("@cron", "#@cron"))
    call = [sys.executable, "-c", "import made; made.cat(); made.exit()"]
    environ = {"SCHED_DATABASE_URL": "postgresql://secret", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(call, env=environ, check=False, capture_output=True, text=True)
    assert (tmp_path / "out").read_text() == 'line one\nline two\nit\'s "me" /bin/sh \n'
    assert "exit status 3" in done.stderr


@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.text(alphabet="* 0123456789/-,@#%\\='\"\tabHL\r{}", max_size=40),
            st.text(max_size=20).map("* * * * * ".__add__),
            st.text(max_size=20).map("#".__add__),
            st.text(max_size=20).map("A=".__add__),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_whatever_stands_in_a_crontab_becomes_a_file_or_a_remark(
    lines: list[str], has_users: bool
) -> None:
    text = "\n".join(lines)
    found = read_crontab(text, has_users=has_users)
    compile(code_of(found, origin=text, tz="UTC"), "crontab", "exec")
    told = {each.line for each in found.entries} | {each.line for each in found.remarks}
    asked = {
        number
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip(" \t\r") and not line.strip(" \t\r").startswith("#") and "=" not in line
    }
    assert asked <= told
