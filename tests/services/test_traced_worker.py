"""A worker whose program traces: the spans of its runs are handed over before its processes end."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from command import Project

TRACED = """\
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from cronqueue import job

kept = open("spans.jsonl", "a")
exporter = ConsoleSpanExporter(out=kept, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
trace.set_tracer_provider(provider)


@job
def act() -> None: ...
"""


def test_spans_of_runs_are_handed_over_before_the_worker_ends(sqlite_project: Project) -> None:
    (sqlite_project.folder / "schedules/traced.py").write_text(TRACED)
    for words in (("enqueue", "traced.act"), ("worker", "--burst")):
        subprocess.run(
            [sys.executable, "-m", "cronsched.cli", *words],
            env=os.environ | {"SCHED_DATABASE_URL": sqlite_project.url},
            cwd=sqlite_project.folder,
            timeout=60,
            check=True,
        )
    lines = (sqlite_project.folder / "spans.jsonl").read_text().splitlines()
    spans = {span["name"]: span for span in map(json.loads, lines)}
    sent, ran = spans["enqueue traced.act"], spans["run traced.act"]
    assert [link["context"]["span_id"] for link in ran["links"]] == [sent["context"]["span_id"]]
