-- As `guard_of` decides for new ones. What runs at this moment keeps running without a guard.
UPDATE sched_jobs SET gated = true, guard = rules.guard
FROM (
    SELECT name, CASE WHEN overlap = 'allow' THEN name ELSE COALESCE(overlap_key, name) END AS guard
    FROM (
        SELECT name,
            CAST(definition AS json) ->> 'overlap' AS overlap,
            CAST(definition AS json) ->> 'overlap_key' AS overlap_key,
            CAST(definition AS json) ->> 'catch_up' AS catch_up,
            CAST(definition AS json) ->> 'catch_up_window' AS catch_up_window,
            CAST(definition AS json) ->> 'catch_up_limit' AS catch_up_limit
        FROM sched_schedules
    ) AS stored
    WHERE overlap <> 'allow' OR catch_up <> 'all'
        OR catch_up_window IS NOT NULL OR catch_up_limit IS NOT NULL
) AS rules
WHERE sched_jobs.schedule = rules.name AND state IN ('queued', 'held') AND sched_jobs.guard IS NULL
    AND origin = 'schedule';
