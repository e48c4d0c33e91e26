"""What deploy/ shows and judges is what /metrics serves, and the page of monitoring names all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cronqueue.database import Database
from cronsched.metrics import Metric, Totals, collect

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
NAME = re.compile(r"\bsched_\w+")


@pytest.fixture
def served(sqlite_url: str) -> list[Metric]:
    database = Database(sqlite_url)
    found = collect(database, Totals())
    database.dispose()
    return found


def lines_of(metrics: list[Metric]) -> set[str]:
    """The names that queries may use."""
    suffixes = {"gauge": ("",), "counter": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {each.name + suffix for each in metrics for suffix in suffixes[each.kind]}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def test_the_alerts_ask_for_metrics_that_are_served(served: list[Metric]) -> None:
    text = ALERTS.read_text()
    asked = set(NAME.findall(text))
    assert len(re.findall(r"- alert: Sched\w+\n +expr:", text)) > 10
    assert asked <= lines_of(served)
    assert "sched_oldest_due_age_seconds" in asked


def test_the_dashboard_asks_for_metrics_that_are_served(served: list[Metric]) -> None:
    panels = dashboard()["panels"]
    queries = [each["expr"] for panel in panels for each in panel["targets"]]
    asked = {name for query in queries for name in NAME.findall(query)}
    assert len(queries) > 15
    assert asked <= lines_of(served)
    assert all(NAME.search(query) for query in queries)


def test_every_metric_but_the_version_is_on_the_dashboard_or_in_an_alert(
    served: list[Metric],
) -> None:
    shown = DASHBOARD.read_text() + ALERTS.read_text()
    unused = [each.name for each in served if each.name not in shown]
    assert unused == ["sched_info"]


def test_panels_of_the_dashboard_do_not_lie_on_one_another() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard()["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_the_page_names_every_metric_and_no_other(served: list[Metric]) -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    table = re.findall(r"^\| `(sched_\w+)`", page, re.MULTILINE)
    assert table == [each.name for each in served]
