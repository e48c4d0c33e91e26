ALTER TABLE sched_schedules ADD COLUMN watched BOOLEAN DEFAULT false NOT NULL;
ALTER TABLE sched_schedules ADD COLUMN resumed_at TIMESTAMP WITH TIME ZONE;
ALTER TABLE sched_occurrences ADD COLUMN told_at TIMESTAMP WITH TIME ZONE;
CREATE INDEX sched_schedules_watched ON sched_schedules (name) WHERE watched AND state = 'active';
CREATE INDEX sched_occurrences_untold ON sched_occurrences (schedule) WHERE substr(verdict, 1, 7) = 'missed:' AND told_at IS NULL;
