"""An executor's process: what is set up in it before the executor works, and how it ends."""

from __future__ import annotations

import logging
import os
from multiprocessing.connection import Connection
from pathlib import Path

from cronqueue import configuration, tracing
from cronqueue.board import Board
from cronqueue.database import Database
from cronqueue.executor import Executor
from cronqueue.executorspec import ExecutorSpec
from cronqueue.logs import log_to
from cronqueue.pipes import ExecutorEnd
from cronqueue.processes import call_process, end_with_parent, ignore_signals

log = logging.getLogger("cronqueue.worker")


def run_executor(pipe: Connection) -> None:
    """The body of an executor process, which is told through the pipe whose it is."""
    ignore_signals()
    end_with_parent()
    call_process("sched-executor")
    try:
        spec: ExecutorSpec = pipe.recv()
    except (EOFError, OSError):
        os._exit(1)  # the supervisor is gone, or wants none
    log_to(spec.log_level, spec.log_jobs, spec.settings.log_format, spec.name)
    board = Board(Path(spec.board_path), spec.board_entries)
    board.forget_file()
    configuration.use_settings(spec.settings)
    # Each job may hold a connection for its session, and take another meanwhile.
    database = Database(spec.database_url, pool_size=spec.settings.concurrency + 5)
    configuration.use_database(database)
    code = 1
    try:
        Executor(spec, ExecutorEnd(pipe), board, database).run()
        code = 0
    except BaseException:
        log.critical("the executor has failed", exc_info=True)
    finally:
        tracing.flush()
        logging.shutdown()
        os._exit(code)  # threads whose bodies cannot be interrupted do not hold us back
