-- Accounts for the processes, after `sched db grants | psql` has made the roles that they are members of.
-- Passwords: \password sched_app and so on.
CREATE ROLE sched_app LOGIN IN ROLE sched_enqueuer;
CREATE ROLE sched_workers LOGIN IN ROLE sched_worker;
CREATE ROLE sched_daemons LOGIN IN ROLE sched_daemon;
CREATE ROLE sched_people LOGIN IN ROLE sched_operator;
CREATE ROLE sched_monitor LOGIN IN ROLE sched_reader;

-- Behind a pooler in transaction mode: what each session otherwise gets from us.
ALTER ROLE sched_app SET statement_timeout = '30s';
ALTER ROLE sched_app SET lock_timeout = '5s';
ALTER ROLE sched_app SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE sched_workers SET statement_timeout = '30s';
ALTER ROLE sched_workers SET lock_timeout = '5s';
ALTER ROLE sched_workers SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE sched_daemons SET statement_timeout = '30s';
ALTER ROLE sched_daemons SET lock_timeout = '5s';
ALTER ROLE sched_daemons SET idle_in_transaction_session_timeout = '60s';
