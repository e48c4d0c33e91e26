"""The commands in deploy/ exist, with their options, and services get the time that they need to stop."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from command_lines import parse
from cronqueue.durations import parse_duration

FOLDER = Path(__file__).parents[2] / "deploy"
UNITS = sorted((FOLDER / "systemd").glob("*.service"))
CONTAINERS = (FOLDER / "container/Containerfile", FOLDER / "container/compose.yaml")


def unit_commands(unit: Path) -> list[list[str]]:
    return [
        shlex.split(line)
        for line in re.findall(r"^ExecStart=(.+)$", unit.read_text(), re.MULTILINE)
    ]


def container_commands(file: Path) -> list[list[str]]:
    return [
        json.loads(line)
        for line in re.findall(r"^(?:CMD| +command:) (\[.+\])$", file.read_text(), re.MULTILINE)
    ]


ALL = [
    pytest.param(words, id=f"{file.name}: {shlex.join(words[1:])}")
    for files, read in ((UNITS, unit_commands), (CONTAINERS, container_commands))
    for file in files
    for words in read(file)
]


def test_every_file_has_its_commands() -> None:
    assert [len(unit_commands(unit)) for unit in UNITS] == [1, 1]
    assert [len(container_commands(file)) for file in CONTAINERS] == [1, 3]


@pytest.mark.parametrize("words", ALL)
def test_the_command_and_its_options_exist(words: list[str]) -> None:
    parse(words)


def test_an_option_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        parse(["sched", "worker", "--nonsense"])


def test_workers_are_given_ten_seconds_more_than_they_ask_for() -> None:
    unit, compose = FOLDER / "systemd/sched-worker.service", FOLDER / "container/compose.yaml"
    [words] = unit_commands(unit)
    asked = parse_duration(parse(words).params["shutdown_timeout"])
    given = [
        *re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE),
        *re.findall(r"stop_grace_period: (\d+)s", compose.read_text()),
    ]
    assert [float(seconds) for seconds in given] == [asked.total_seconds() + 10] * 2
