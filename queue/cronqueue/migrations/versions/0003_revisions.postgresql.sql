CREATE TABLE sched_revisions (
    schedule TEXT NOT NULL,
    revision INTEGER NOT NULL,
    definition TEXT NOT NULL,
    kind TEXT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_until TIMESTAMP WITH TIME ZONE,
    CONSTRAINT sched_revisions_pkey PRIMARY KEY (schedule, revision)
);

-- What was in force before is not known; what is, is kept from now on.
INSERT INTO sched_revisions (schedule, revision, definition, kind, valid_from, valid_until)
SELECT name, revision, definition, 'added', valid_from, CASE WHEN state = 'retired' THEN retired_at END
FROM sched_schedules;
