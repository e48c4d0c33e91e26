"""What the files of deploy/ hold, read as their readers do: commands, and the times to stop."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "deploy"
# Written by others, and read by their own tests.
OF_OTHERS = ("grafana", "prometheus")


def deploy_files() -> list[Path]:
    """All of them, pages left out."""
    return sorted(
        path
        for path in FOLDER.rglob("*")
        if path.is_file()
        and path.suffix != ".md"
        and path.relative_to(FOLDER).parts[0] not in OF_OTHERS
    )


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def commands(path: Path) -> list[list[str]]:
    """The words of each command in the file, from `sched` on."""
    text = path.read_text(encoding="utf-8")
    match path.suffix or path.name:
        case ".service":
            lines = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
            found = [shlex.split(line) for line in lines]
        case ".conf" if path.parent.name == "supervisord":
            found = [shlex.split(each["command"]) for each in _programs(path)]
        case ".yaml":
            found = [words for each in documents(path) for words in _yaml_commands(each)]
        case "Containerfile":
            found = [json.loads(line) for line in re.findall(r"^CMD (\[.+\])$", text, re.MULTILINE)]
        case "Procfile":
            found = [_after_variables(line.partition(": ")[2]) for line in text.splitlines()]
        case _:
            found = []
    return found


def _programs(path: Path) -> Iterator[Any]:
    parser = ConfigParser(interpolation=None)
    parser.read(path)
    return (parser[name] for name in parser.sections() if name.startswith("program:"))


def _yaml_commands(node: Any) -> Iterator[list[str]]:
    """Every list of words that begins with `sched`, or is a check that runs it."""
    if isinstance(node, dict):
        for each in node.values():
            yield from _yaml_commands(each)
    elif isinstance(node, list):
        words = node[1:] if node[:1] == ["CMD"] else node
        if words[:1] == ["sched"] and all(isinstance(word, str) for word in words):
            yield words
        else:
            for each in node:
                yield from _yaml_commands(each)


def _after_variables(line: str) -> list[str]:
    words = shlex.split(line.replace("$PORT", "5000"))
    while re.match(r"\w+=", words[0]):
        words.pop(0)
    return words


def times_to_stop(path: Path) -> list[tuple[list[str], float]]:
    """Each command of a worker with the seconds that its manager gives it to stop."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".service":
        seconds = [
            float(each) for each in re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        ]
        return [(words, each) for words in _workers(commands(path)) for each in seconds]
    if path.parent.name == "supervisord":
        pairs = [(shlex.split(each["command"]), each["stopwaitsecs"]) for each in _programs(path)]
        return [(words, float(seconds)) for words, seconds in pairs if _workers([words])]
    if path.name == "compose.yaml":
        services = documents(path)[0]["services"].values()
        return [
            (each["command"], float(each["stop_grace_period"].removesuffix("s")))
            for each in services
            if _workers([each.get("command", [])])
        ]
    return [
        (words, float(each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]))
        for each in (documents(path) if path.suffix == ".yaml" else [])
        if isinstance(each, dict) and each.get("kind") == "Deployment"
        for words in _workers(_yaml_commands(each))
    ]


def _workers(found: Any) -> list[list[str]]:
    return [words for words in found if words[1:2] == ["worker"]]
