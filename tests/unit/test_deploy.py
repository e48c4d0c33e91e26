"""What deploy/ holds fits the code: commands, options, settings, and the time that services get to stop."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from command_lines import parse
from cronqueue.durations import parse_duration
from cronqueue.models import Base
from cronqueue.settings import describe_settings, load_settings
from deploy_files import FOLDER, commands, deploy_files, documents, times_to_stop

FILES = deploy_files()
ALL = [
    pytest.param(words, id=f"{file.parent.name}/{file.name}: {shlex.join(words[1:])}")
    for file in FILES
    for words in commands(file)
]
STOPPING = [pair for file in FILES for pair in times_to_stop(file)]
POOLS = sorted((FOLDER / "systemd/default").glob("sched-worker-*"))
# Files that start nothing of ours.
WITHOUT_COMMANDS = {
    *("sched.target", "sched-check.timer", "sched", *(pool.name for pool in POOLS)),
    *("kustomization.yaml", "keda-scaledobject.yaml", "pgbouncer.ini", "accounts.sql"),
    *("hot-table.sql", "Caddyfile", "db1.yml", "haproxy.cfg"),
}


def test_every_file_has_its_commands() -> None:
    without = {file.name for file in FILES if not commands(file)}
    assert without == WITHOUT_COMMANDS | {"sched.conf"}  # that of nginx
    assert len(ALL) >= 20
    started = {words[1] for each in ALL for words in [each.values[0]] if isinstance(words, list)}
    assert started == {"daemon", "worker", "web", "db", "check", "probe"}


@pytest.mark.parametrize("words", ALL)
def test_the_command_and_its_options_exist(words: list[str]) -> None:
    parse(words)


def test_an_option_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        parse(["sched", "worker", "--nonsense"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_variable_of_ours_is_a_setting(file: Path) -> None:
    known = {f"SCHED_{name.upper()}" for name, _, _ in describe_settings()}
    named = set(re.findall(r"\bSCHED_[A-Z_]+", file.read_text(encoding="utf-8")))
    assert named - known == set()


def test_the_page_says_of_every_folder_what_it_is_for() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    folders = {f"{file.relative_to(FOLDER).parts[0]}/" for file in FILES}
    assert {each for each in folders if f"| `{each}` |" not in page} == set()


def test_workers_are_given_ten_seconds_more_than_they_ask_for() -> None:
    assert len(STOPPING) == 4  # systemd, supervisord, compose, Kubernetes
    for words, given in STOPPING:
        asked = parse_duration(parse(words).params["shutdown_timeout"])
        assert given == asked.total_seconds() + 10


def test_a_worker_of_a_procfile_is_through_before_it_is_killed() -> None:
    (worker,) = [words for words in commands(FOLDER / "heroku/Procfile") if words[1] == "worker"]
    # Heroku kills 30 s after TERM.
    assert parse_duration(parse(worker).params["shutdown_timeout"]).total_seconds() <= 20


def test_the_pools_together_take_every_priority() -> None:
    bands = []
    for pool in POOLS:
        lines = [line for line in pool.read_text().splitlines() if not line.startswith("#")]
        settings = load_settings(environ=dict(line.split("=", 1) for line in lines)).settings
        assert settings.queues == ()
        bands.append((settings.min_priority, settings.max_priority))
    lowest_of_open_above = min(low for low, high in bands if high is None and low is not None)
    assert (None, lowest_of_open_above - 1) in bands


def test_the_hot_table_is_put_back_to_what_the_schema_sets() -> None:
    text = (FOLDER / "sql/hot-table.sql").read_text()
    written = dict(re.findall(r"^    (\w+) = ([\d.]+),?$", text, re.MULTILINE))
    meant = Base.metadata.tables["sched_jobs"].dialect_options["postgresql"]["with"]
    assert written == {name: str(value) for name, value in meant.items()}


def test_systemd_has_nothing_against_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: the units are not verified")
    sched = Path(sys.executable).with_name("sched")
    assert sched.exists()
    for unit in (FOLDER / "systemd").glob("sched*.*"):
        text = unit.read_text().replace("/srv/app/.venv/bin/sched", str(sched))
        (tmp_path / unit.name).write_text(text)
    names = [
        each.name.replace("@.", "@mail.") for each in tmp_path.iterdir() if each.suffix != ".target"
    ]
    done = subprocess.run(
        [program, "verify", "--man=no", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # What is wrong with other units of this machine is none of ours.
    assert [line for line in done.stderr.splitlines() if "sched" in line] == []


def test_every_manifest_is_applied() -> None:
    folder = FOLDER / "kubernetes"
    (listed,) = documents(folder / "kustomization.yaml")
    others = {"kustomization.yaml", "keda-scaledobject.yaml"}
    assert {*listed["resources"]} == {path.name for path in folder.iterdir()} - others
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: the manifests are not built")
    subprocess.run([kubectl, "kustomize", folder], check=True, capture_output=True, timeout=60)


def test_the_scaler_scales_the_worker_by_its_places() -> None:
    worker, _ = documents(FOLDER / "kubernetes/worker.yaml")
    scaler, _ = documents(FOLDER / "kubernetes/keda-scaledobject.yaml")
    assert scaler["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    places = {each["name"]: each["value"] for each in container["env"]}["SCHED_CONCURRENCY"]
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["metadata"]["targetQueryValue"] == places
    counted = int(re.findall(r"LIMIT (\d+)", trigger["metadata"]["query"])[0])
    assert counted >= int(places) * scaler["spec"]["maxReplicaCount"]
