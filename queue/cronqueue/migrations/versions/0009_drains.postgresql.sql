ALTER TABLE sched_workers ADD COLUMN drain_requested_at TIMESTAMP WITH TIME ZONE;
