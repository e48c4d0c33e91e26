CREATE TABLE sched_requests (
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id BIGINT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT sched_requests_pkey PRIMARY KEY (key)
);
