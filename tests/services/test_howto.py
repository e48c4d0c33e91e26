"""The files of the how-tos do what their pages say."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "howto"
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The address in the pages.
SHOP = "postgresql+psycopg://app@db/shop"
Run = Callable[..., str]

TRANSACTIONS = """
import shop
from cronqueue import Job
from sqlalchemy import select
from sqlalchemy.orm import Session

shop.Base.metadata.create_all(shop.engine)
print(shop.register("ann"))
shop.welcome.enqueue = shop.welcome.options = lambda **_: 1 / 0
try:
    shop.register("bob")
except ZeroDivisionError:
    print("neither")
with Session(shop.engine) as session:
    print(session.scalars(select(shop.User.name)).all(), len(session.scalars(select(Job)).all()))
"""
WORKED = """
import shop
from cronqueue import Job
from sqlalchemy.orm import Session

print(Job.get(1).result, Session(shop.engine).get(shop.User, 1).welcomes)
"""
FASTAPI = """
from fastapi.testclient import TestClient
from main import site

client = TestClient(site, base_url="http://shop.example.com")
first, again = (client.post("/reports/2026-10").json()["job"] for _ in range(2))
print(first == again, client.get(f"/reports/jobs/{first}").json()["state"])
print(client.get("/reports/jobs/999").status_code, client.get("/sched/").status_code)
"""
DJANGO_SETTINGS = """
SECRET_KEY = "not one"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}}
"""
DJANGO_URLS = """
from django.urls import path
from shop.views import register

urlpatterns = [path("register", register)]
"""
DJANGO = """
import django
django.setup()
from django.core.management import call_command
from django.test import Client

call_command("migrate", verbosity=0)
print(Client().post("/register", {"name": "ann"}).json())
"""


@pytest.fixture
def run(sqlite_url: str, tmp_path: Path) -> Run:
    """Run a Python program, or a module, among the files of a page; returns what it prints."""

    def call(*arguments: str, **environ: str) -> str:
        ours = {"SCHED_DATABASE_URL": sqlite_url, "PYTHONPATH": str(tmp_path)}
        outer = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST")}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=outer | ours | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def write_files(page: str, folder: Path, url: str = SHOP) -> list[str]:
    """The files that a page shows, with another address of the database; returns their names."""
    found = BLOCK.findall((FOLDER / page).read_text(encoding="utf-8"))
    for name, text in found:
        path = folder / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_text(text.replace(SHOP, url))
        path.chmod(0o644)
    return [name for name, _ in found]


def test_the_first_page_works_as_it_is_pasted(run: Run, tmp_path: Path) -> None:
    page = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    declared, enqueued = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "schedules").mkdir(mode=0o755)
    (tmp_path / "schedules/reports.py").write_text(declared)
    (tmp_path / "schedules/reports.py").chmod(0o644)
    run("-c", enqueued)
    run("-m", "cronsched.cli", "daemon", "--once")
    listed = run("-m", "cronsched.cli", "schedules", "list")
    assert set(re.findall(r"\breports\.\w+", listed)) == {
        "reports.refresh",
        "reports.morning_report",
    }
    run("-m", "cronsched.cli", "worker", "--burst")
    waiting = run("-m", "cronsched.cli", "jobs", "list", "--task", "reports.welcome")
    assert {"queued", "succeeded"} <= set(waiting.split())


def test_a_job_and_its_data_are_stored_together_or_not_at_all(
    run: Run, sqlite_url: str, tmp_path: Path
) -> None:
    assert write_files("transactions.md", tmp_path, sqlite_url) == ["shop.py"]
    assert run("-c", TRANSACTIONS).splitlines() == ["1", "neither", "['ann'] 1"]
    run("-m", "cronsched.cli", "worker", "--burst", SCHED_IMPORTS="shop")
    assert run("-c", WORKED) == "Hello, ann! 1\n"


def test_the_tests_of_the_page_on_testing_pass(run: Run, tmp_path: Path) -> None:
    names = write_files("testing.md", tmp_path)
    assert names == ["shop.py", "test_shop.py", "schedules/nightly.py", "test_schedules.py"]
    assert re.search(r"\b6 passed\b", run("-m", "pytest", "-q", "-p", "no:cacheprovider"))


def test_every_schedule_of_the_page_on_migrating_is_known(run: Run, tmp_path: Path) -> None:
    write_files("migrating.md", tmp_path)
    run("-m", "cronsched.cli", "daemon", "--once")
    listed = run("-m", "cronsched.cli", "schedules", "list")
    for name in ("sender", "report", "clean", "clean.var"):
        assert re.search(rf"\b{re.escape(name)}\b", listed), name


def test_a_request_orders_a_report_and_follows_it(run: Run, tmp_path: Path) -> None:
    _need("fastapi")
    write_files("fastapi.md", tmp_path)
    secret = {"SCHED_WEB_PASSWORD": "at-least-twelve"}
    assert run("-c", FASTAPI, **secret).splitlines() == ["True queued", "404 401"]
    run("-m", "cronsched.cli", "worker", "--burst", SCHED_IMPORTS="jobs")
    listed = run("-m", "cronsched.cli", "jobs", "list", "--state", "succeeded")
    assert "jobs.report" in listed


def test_a_user_of_django_is_welcomed_by_a_worker(run: Run, tmp_path: Path) -> None:
    _need("django")
    write_files("django.md", tmp_path)
    (tmp_path / "shop/settings.py").write_text(DJANGO_SETTINGS)
    (tmp_path / "shop/urls.py").write_text(DJANGO_URLS)
    django = {"DJANGO_SETTINGS_MODULE": "shop.settings", "SCHED_IMPORTS": "shop.jobs"}
    assert run("-c", DJANGO, **django) == "{'user': 1}\n"
    run("-m", "cronsched.cli", "daemon", "--once", **django)
    run("-m", "cronsched.cli", "worker", "--burst", **django)
    assert "Hello, ann!" in run("-m", "cronsched.cli", "jobs", "show", "1", **django)
    listed = run("-m", "cronsched.cli", "schedules", "list", **django)
    assert "shop.clear_sessions" in listed


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (pip install {package}): its how-to is not run")
