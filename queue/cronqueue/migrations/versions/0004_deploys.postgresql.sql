ALTER TABLE sched_manifests ADD COLUMN brought_by TEXT;
ALTER TABLE sched_manifests ADD COLUMN held_at TIMESTAMP WITH TIME ZONE;
