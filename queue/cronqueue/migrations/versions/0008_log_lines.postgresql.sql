CREATE TABLE sched_log_lines (
    job_id BIGINT NOT NULL,
    claim BIGINT NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    CONSTRAINT sched_log_lines_pkey PRIMARY KEY (job_id, claim, number)
);
