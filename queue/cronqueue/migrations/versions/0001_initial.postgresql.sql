CREATE TABLE sched_attempts (
    id BIGSERIAL NOT NULL,
    job_id BIGINT NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    CONSTRAINT sched_attempts_pkey PRIMARY KEY (id)
);

CREATE INDEX sched_attempts_job ON sched_attempts (job_id, attempt);

CREATE TABLE sched_audit (
    id BIGSERIAL NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail JSON,
    CONSTRAINT sched_audit_pkey PRIMARY KEY (id)
);

CREATE TABLE sched_guards (
    key TEXT NOT NULL,
    CONSTRAINT sched_guards_pkey PRIMARY KEY (key)
);

CREATE TABLE sched_jobs (
    id BIGSERIAL NOT NULL,
    task TEXT NOT NULL,
    args JSON DEFAULT '{"args": [], "kwargs": {}}' NOT NULL,
    queue TEXT DEFAULT 'default' NOT NULL,
    priority INTEGER DEFAULT 0 NOT NULL,
    state TEXT DEFAULT 'queued' NOT NULL,
    run_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    max_attempts INTEGER DEFAULT 25 NOT NULL,
    claims BIGINT DEFAULT 0 NOT NULL,
    locked_by TEXT,
    worker_id TEXT,
    locked_at TIMESTAMP WITH TIME ZONE,
    locked_until TIMESTAMP WITH TIME ZONE,
    lock_token TEXT,
    last_error TEXT,
    failed_at TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    result JSON,
    reason TEXT,
    key TEXT,
    key_until TEXT,
    unique_key TEXT,
    origin TEXT DEFAULT 'adhoc' NOT NULL,
    batch_id TEXT,
    schedule TEXT,
    planned_for TIMESTAMP WITH TIME ZONE,
    guard TEXT,
    slot INTEGER,
    gated BOOLEAN DEFAULT false NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    held_reason TEXT,
    pinned BOOLEAN DEFAULT false NOT NULL,
    cancel_requested_at TIMESTAMP WITH TIME ZONE,
    rescues INTEGER DEFAULT 0 NOT NULL,
    refunds INTEGER DEFAULT 0 NOT NULL,
    run_alone BOOLEAN DEFAULT false NOT NULL,
    timeout FLOAT(53),
    v INTEGER DEFAULT 1 NOT NULL,
    progress JSON,
    tags JSON,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT sched_jobs_pkey PRIMARY KEY (id),
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
    CONSTRAINT sched_jobs_run_at_moment CHECK (run_at >= '1970-01-01 00:00+00' AND run_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_planned_for_moment CHECK (planned_for >= '1970-01-01 00:00+00' AND planned_for < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_expires_at_moment CHECK (expires_at >= '1970-01-01 00:00+00' AND expires_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_locked_until_moment CHECK (locked_until >= '1970-01-01 00:00+00' AND locked_until < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_locked_at_moment CHECK (locked_at >= '1970-01-01 00:00+00' AND locked_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_started_at_moment CHECK (started_at >= '1970-01-01 00:00+00' AND started_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_finished_at_moment CHECK (finished_at >= '1970-01-01 00:00+00' AND finished_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_failed_at_moment CHECK (failed_at >= '1970-01-01 00:00+00' AND failed_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_cancel_requested_at_moment CHECK (cancel_requested_at >= '1970-01-01 00:00+00' AND cancel_requested_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_created_at_moment CHECK (created_at >= '1970-01-01 00:00+00' AND created_at < '9000-01-01 00:00+00'),
    CONSTRAINT sched_jobs_updated_at_moment CHECK (updated_at >= '1970-01-01 00:00+00' AND updated_at < '9000-01-01 00:00+00')
)
 WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);

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
    first_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    in_force_since TIMESTAMP WITH TIME ZONE,
    in_force_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT sched_manifests_pkey PRIMARY KEY (hash)
);

CREATE TABLE sched_occurrence_ranges (
    schedule TEXT NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    verdict TEXT NOT NULL,
    count BIGINT NOT NULL,
    CONSTRAINT sched_occurrence_ranges_pkey PRIMARY KEY (schedule, starts_at, ends_at, verdict)
);

CREATE TABLE sched_occurrences (
    schedule TEXT NOT NULL,
    planned_for TIMESTAMP WITH TIME ZONE NOT NULL,
    verdict TEXT,
    job_id BIGINT,
    revision INTEGER DEFAULT 1 NOT NULL,
    utc_offset INTEGER,
    decided_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT sched_occurrences_pkey PRIMARY KEY (schedule, planned_for),
    CONSTRAINT sched_occurrences_planned_for_moment CHECK (planned_for >= '1970-01-01 00:00+00' AND planned_for < '9000-01-01 00:00+00')
);

CREATE INDEX sched_occurrences_job ON sched_occurrences (job_id) WHERE job_id IS NOT NULL;

CREATE TABLE sched_overrides (
    schedule TEXT NOT NULL,
    planned_for TIMESTAMP WITH TIME ZONE NOT NULL,
    action TEXT NOT NULL,
    run_at TIMESTAMP WITH TIME ZONE,
    priority INTEGER,
    reason TEXT,
    actor TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT sched_overrides_pkey PRIMARY KEY (schedule, planned_for)
);

CREATE TABLE sched_queues (
    name TEXT NOT NULL,
    paused_at TIMESTAMP WITH TIME ZONE,
    paused_by TEXT,
    paused_reason TEXT,
    paused_until TIMESTAMP WITH TIME ZONE,
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
    anchor TIMESTAMP WITH TIME ZONE,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    materialized_until TIMESTAMP WITH TIME ZONE NOT NULL,
    refill_at TIMESTAMP WITH TIME ZONE NOT NULL,
    paused_at TIMESTAMP WITH TIME ZONE,
    paused_by TEXT,
    paused_reason TEXT,
    paused_until TIMESTAMP WITH TIME ZONE,
    retired_at TIMESTAMP WITH TIME ZONE,
    owner TEXT,
    description TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT sched_schedules_pkey PRIMARY KEY (name),
    CONSTRAINT sched_schedules_state CHECK (state IN ('active', 'retired'))
);

CREATE INDEX sched_schedules_refill ON sched_schedules (refill_at) WHERE state = 'active';

CREATE INDEX sched_schedules_source ON sched_schedules (source);

CREATE TABLE sched_sources (
    name TEXT NOT NULL,
    content_hash TEXT,
    applied_at TIMESTAMP WITH TIME ZONE,
    fault TEXT,
    fault_at TIMESTAMP WITH TIME ZONE,
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
    clock_skew FLOAT(53),
    manifest_hash TEXT,
    tags JSON,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    heartbeat_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT sched_workers_pkey PRIMARY KEY (id)
);

CREATE VIEW sched_ledger AS
SELECT o.schedule, o.planned_for, COALESCE(o.verdict, j.state, 'lost:deleted') AS verdict, o.job_id
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id;
