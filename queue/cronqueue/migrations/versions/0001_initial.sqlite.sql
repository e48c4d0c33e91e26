CREATE TABLE sched_attempts (
    id INTEGER NOT NULL,
    job_id BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT,
    started_at TEXT,
    finished_at TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    CONSTRAINT sched_attempts_pkey PRIMARY KEY (id)
);

CREATE INDEX sched_attempts_job ON sched_attempts (job_id, attempt);

CREATE TABLE sched_audit (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT
);

CREATE TABLE sched_guards (
    "key" TEXT NOT NULL,
    CONSTRAINT sched_guards_pkey PRIMARY KEY ("key")
);

CREATE TABLE sched_jobs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL,
    args TEXT DEFAULT '{"args": [], "kwargs": {}}' NOT NULL,
    queue TEXT DEFAULT 'default' NOT NULL,
    priority INTEGER DEFAULT 0 NOT NULL,
    state TEXT DEFAULT 'queued' NOT NULL,
    run_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z') NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    max_attempts INTEGER DEFAULT 25 NOT NULL,
    claims BIGINT DEFAULT 0 NOT NULL,
    locked_by TEXT,
    worker_id TEXT,
    locked_at TEXT,
    locked_until TEXT,
    lock_token TEXT,
    last_error TEXT,
    failed_at TEXT,
    started_at TEXT,
    finished_at TEXT,
    result TEXT,
    reason TEXT,
    "key" TEXT,
    key_until TEXT,
    unique_key TEXT,
    origin TEXT DEFAULT 'adhoc' NOT NULL,
    batch_id TEXT,
    schedule TEXT,
    planned_for TEXT,
    guard TEXT,
    slot INTEGER,
    gated BOOLEAN DEFAULT 0 NOT NULL,
    expires_at TEXT,
    held_reason TEXT,
    pinned BOOLEAN DEFAULT 0 NOT NULL,
    cancel_requested_at TEXT,
    rescues INTEGER DEFAULT 0 NOT NULL,
    refunds INTEGER DEFAULT 0 NOT NULL,
    run_alone BOOLEAN DEFAULT 0 NOT NULL,
    timeout FLOAT,
    v INTEGER DEFAULT 1 NOT NULL,
    progress TEXT,
    tags TEXT,
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z') NOT NULL,
    updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z') NOT NULL,
    CONSTRAINT sched_jobs_state CHECK (state IN ('queued', 'held', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
    CONSTRAINT sched_jobs_lock_token CHECK ((state = 'running') = (lock_token IS NOT NULL)),
    CONSTRAINT sched_jobs_lease CHECK (state <> 'running' OR locked_until IS NOT NULL),
    CONSTRAINT sched_jobs_held_reason CHECK (held_reason IN ('paused', 'unknown_task', 'overlap', 'limit', 'dependency')),
    CONSTRAINT sched_jobs_held CHECK ((state = 'held') = (held_reason IS NOT NULL)),
    CONSTRAINT sched_jobs_key_until CHECK (key_until IN ('finish', 'start')),
    CONSTRAINT sched_jobs_origin CHECK (origin IN ('adhoc', 'schedule', 'backfill', 'manual')),
    CONSTRAINT sched_jobs_task CHECK (length(task) BETWEEN 1 AND 200),
    CONSTRAINT sched_jobs_queue CHECK (length(queue) BETWEEN 1 AND 200),
    CONSTRAINT sched_jobs_attempts CHECK (attempts BETWEEN 0 AND 1000000 AND max_attempts BETWEEN 1 AND 1000000 AND rescues BETWEEN 0 AND 1000000 AND refunds BETWEEN 0 AND 1000000 AND claims BETWEEN 0 AND 4611686018427387904),
    CONSTRAINT sched_jobs_timeout CHECK (timeout > 0 AND timeout <= 315619200),
    CONSTRAINT sched_jobs_types CHECK (typeof(priority) = 'integer' AND typeof(attempts) = 'integer' AND typeof(max_attempts) = 'integer' AND typeof(claims) = 'integer' AND typeof(rescues) = 'integer' AND typeof(refunds) = 'integer' AND typeof(v) = 'integer' AND typeof(timeout) IN ('real', 'null') AND typeof(task) = 'text' AND typeof(queue) = 'text' AND typeof(args) = 'text'),
    CONSTRAINT sched_jobs_run_at_moment CHECK (run_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z' AND run_at >= '1970' AND run_at < '9000'),
    CONSTRAINT sched_jobs_planned_for_moment CHECK (planned_for GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z' AND planned_for >= '1970' AND planned_for < '9000'),
    CONSTRAINT sched_jobs_expires_at_moment CHECK (expires_at GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z' AND expires_at >= '1970' AND expires_at < '9000'),
    CONSTRAINT sched_jobs_locked_until_moment CHECK (locked_until GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z' AND locked_until >= '1970' AND locked_until < '9000')
);

CREATE INDEX sched_jobs_due ON sched_jobs (priority DESC, run_at, id) WHERE state = 'queued' AND NOT gated AND length(queue) > 0;

CREATE INDEX sched_jobs_due_by_queue ON sched_jobs (queue, priority DESC, run_at, id) WHERE state = 'queued' AND NOT gated;

CREATE INDEX sched_jobs_expiring ON sched_jobs (expires_at) WHERE state IN ('queued', 'held') AND expires_at IS NOT NULL;

CREATE INDEX sched_jobs_finished ON sched_jobs (state, finished_at) WHERE state IN ('succeeded', 'failed', 'cancelled', 'skipped');

CREATE INDEX sched_jobs_gated ON sched_jobs (run_at) WHERE state = 'queued' AND gated;

CREATE UNIQUE INDEX sched_jobs_guard_slot ON sched_jobs (guard, slot) WHERE guard IS NOT NULL AND slot IS NOT NULL;

CREATE INDEX sched_jobs_overlap ON sched_jobs (guard, planned_for) WHERE state = 'held' AND held_reason = 'overlap';

CREATE INDEX sched_jobs_running ON sched_jobs (lock_token, id) WHERE state = 'running';

CREATE INDEX sched_jobs_scheduled ON sched_jobs (schedule, planned_for) WHERE state IN ('queued', 'held') AND schedule IS NOT NULL;

CREATE UNIQUE INDEX sched_jobs_unique_key ON sched_jobs (unique_key) WHERE unique_key IS NOT NULL;

CREATE INDEX sched_jobs_unknown_task ON sched_jobs (task, priority DESC, run_at, id) WHERE state = 'held' AND held_reason = 'unknown_task';

CREATE TABLE sched_manifests (
    hash TEXT NOT NULL,
    release BIGINT,
    first_seen_at TEXT NOT NULL,
    in_force_since TEXT,
    in_force_until TEXT,
    CONSTRAINT sched_manifests_pkey PRIMARY KEY (hash)
);

CREATE TABLE sched_occurrence_ranges (
    schedule TEXT NOT NULL,
    starts_at TEXT NOT NULL,
    ends_at TEXT NOT NULL,
    verdict TEXT NOT NULL,
    count BIGINT NOT NULL,
    CONSTRAINT sched_occurrence_ranges_pkey PRIMARY KEY (schedule, starts_at, ends_at, verdict)
);

CREATE TABLE sched_occurrences (
    schedule TEXT NOT NULL,
    planned_for TEXT NOT NULL,
    verdict TEXT,
    job_id BIGINT,
    revision INTEGER DEFAULT 1 NOT NULL,
    utc_offset INTEGER,
    decided_at TEXT,
    CONSTRAINT sched_occurrences_pkey PRIMARY KEY (schedule, planned_for),
    CONSTRAINT sched_occurrences_planned_for_moment CHECK (planned_for GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z' AND planned_for >= '1970' AND planned_for < '9000')
);

CREATE INDEX sched_occurrences_job ON sched_occurrences (job_id) WHERE job_id IS NOT NULL;

CREATE TABLE sched_overrides (
    schedule TEXT NOT NULL,
    planned_for TEXT NOT NULL,
    action TEXT NOT NULL,
    run_at TEXT,
    priority INTEGER,
    reason TEXT,
    actor TEXT,
    created_at TEXT NOT NULL,
    CONSTRAINT sched_overrides_pkey PRIMARY KEY (schedule, planned_for)
);

CREATE TABLE sched_queues (
    name TEXT NOT NULL,
    paused_at TEXT,
    paused_by TEXT,
    paused_reason TEXT,
    paused_until TEXT,
    CONSTRAINT sched_queues_pkey PRIMARY KEY (name)
);

CREATE TABLE sched_schedules (
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    definition TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    timing_hash TEXT NOT NULL,
    payload_hash TEXT NOT NULL,
    revision INTEGER DEFAULT 1 NOT NULL,
    state TEXT DEFAULT 'active' NOT NULL,
    tz TEXT NOT NULL,
    tz_fingerprint TEXT,
    croniter_major INTEGER,
    anchor TEXT,
    valid_from TEXT NOT NULL,
    materialized_until TEXT NOT NULL,
    refill_at TEXT NOT NULL,
    paused_at TEXT,
    paused_by TEXT,
    paused_reason TEXT,
    paused_until TEXT,
    retired_at TEXT,
    owner TEXT,
    description TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    CONSTRAINT sched_schedules_pkey PRIMARY KEY (name),
    CONSTRAINT sched_schedules_state CHECK (state IN ('active', 'retired'))
);

CREATE INDEX sched_schedules_refill ON sched_schedules (refill_at) WHERE state = 'active';

CREATE INDEX sched_schedules_source ON sched_schedules (source);

CREATE TABLE sched_sources (
    name TEXT NOT NULL,
    content_hash TEXT,
    applied_at TEXT,
    fault TEXT,
    fault_at TEXT,
    CONSTRAINT sched_sources_pkey PRIMARY KEY (name)
);

CREATE TABLE sched_workers (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    queues TEXT,
    exclude_queues TEXT,
    min_priority INTEGER,
    max_priority INTEGER,
    concurrency INTEGER,
    running INTEGER,
    state TEXT NOT NULL,
    clock_skew FLOAT,
    manifest_hash TEXT,
    tags TEXT,
    started_at TEXT NOT NULL,
    heartbeat_at TEXT NOT NULL,
    CONSTRAINT sched_workers_pkey PRIMARY KEY (id)
);

CREATE VIEW sched_ledger AS
SELECT o.schedule, o.planned_for, COALESCE(o.verdict, j.state, 'lost:deleted') AS verdict, o.job_id
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id;
