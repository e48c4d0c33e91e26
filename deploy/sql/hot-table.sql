-- What `sched db upgrade` has set on the hot table, to be put back where something has reset it. A row is rewritten
-- twice within seconds, so dead ones come fast: vacuum at 2 % of them, without a pause; room for renewals of leases.
ALTER TABLE sched_jobs SET (
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
