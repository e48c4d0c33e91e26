"""The worker: `sched worker`, or `Worker(...).run()` in a program of your own."""

from __future__ import annotations

import logging
from typing import Any

from cronqueue import configuration
from cronqueue.database import Database, shown
from cronqueue.executorspec import ExecutorSpec, board_entries_of, specs_of
from cronqueue.registration import default_name
from cronqueue.settings import Loaded, check_setting_name, load_settings, resolve_database_url
from cronqueue.starting import Starter
from cronqueue.supervisor import Supervisor

log = logging.getLogger("cronqueue.worker")


class Worker:
    """A supervisor with its executor processes.

    Takes every setting of `cronqueue.settings.Settings` by name; what is not given is read from the
    environment and the settings file. The database is the one of `configure`, unless `database_url` is
    given. Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        burst: bool = False,
        max_jobs: int | None = None,
        loaded: Loaded | None = None,
        **settings: Any,
    ) -> None:
        for name in settings:
            check_setting_name(name)
        if loaded is None and "database_url" not in settings:
            settings["database_url"] = configuration.configured_url()
        self.loaded = loaded or load_settings(settings, delayed_job_names=True)
        self.burst = burst
        self.max_jobs = max_jobs
        self.says_database = True
        #: Nothing else lives in this process: executors may be forked from it.
        self.is_alone = False

    def run(self) -> int:
        """Work until TERM or INT (or until nothing is due, with `burst`); returns the exit code.

        To be called in the main thread, in a program whose main module can be imported again.
        """
        settings = self.loaded.settings
        url = resolve_database_url(self.loaded)
        database = Database(url)
        if self.says_database:
            log.info("database %s", shown(database.url))
        template = ExecutorSpec(
            worker_id="",
            name=settings.name or default_name(),
            database_url=url,
            settings=settings,
            schedules=str((self.loaded.folder / settings.schedules).absolute()),
            imports=settings.imports,
            burst=self.burst,
            max_jobs=self.max_jobs,
            board_path="",
            board_entries=board_entries_of(settings),
            log_level=logging.getLogger("cronqueue").getEffectiveLevel(),
            log_jobs=logging.getLogger("cronqueue.jobs").getEffectiveLevel(),
        )
        starter = Starter()
        if self.is_alone:
            starter.fork(len(specs_of(template)))
        try:
            return Supervisor(template, database, starter).run()
        finally:
            starter.close()
