CREATE TABLE sched_alerts (
    id BIGSERIAL NOT NULL,
    cause TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    facts TEXT NOT NULL,
    count INTEGER NOT NULL,
    untold INTEGER NOT NULL,
    first_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE,
    told_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT sched_alerts_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX sched_alerts_open ON sched_alerts (cause) WHERE ended_at IS NULL;

CREATE TABLE sched_alert_messages (
    id BIGSERIAL NOT NULL,
    channel TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT DEFAULT 'waiting' NOT NULL,
    attempts INTEGER DEFAULT 0 NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    token TEXT,
    sent_at TIMESTAMP WITH TIME ZONE,
    error TEXT,
    CONSTRAINT sched_alert_messages_pkey PRIMARY KEY (id),
    CONSTRAINT sched_alert_messages_state CHECK (state IN ('waiting', 'sent', 'failed'))
);

CREATE INDEX sched_alert_messages_due ON sched_alert_messages (due_at) WHERE state = 'waiting';

CREATE TABLE sched_alert_marks (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    moment TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT sched_alert_marks_pkey PRIMARY KEY (kind, subject, moment)
);

CREATE INDEX sched_alert_marks_age ON sched_alert_marks (created_at);

CREATE TABLE sched_alert_looks (
    name TEXT NOT NULL,
    looked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT sched_alert_looks_pkey PRIMARY KEY (name)
);

INSERT INTO sched_alert_looks (name, looked_at) VALUES ('all', '1970-01-01T00:00:00.000000Z');

CREATE INDEX sched_occurrences_missed ON sched_occurrences (decided_at) WHERE substr(verdict, 1, 7) = 'missed:';
