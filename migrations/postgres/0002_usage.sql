-- Every event that was ever counted, by its id alone: a repeated one is recognised whatever it says.
create table usage_event_id (
    id text collate "C" primary key,
    at timestamptz not null,
    owed boolean not null
);
create index usage_event_id_owed on usage_event_id (id) where owed;
comment on column usage_event_id.owed is 'not yet in Redis';

-- The events, append-only, by month of UTC. Months without a partition of their own go to the last one.
create table usage_event (
    id text collate "C" not null,
    at timestamptz not null,
    key_id text not null,
    account_id text,
    model text not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cache_creation_5m_tokens bigint not null,
    cache_creation_1h_tokens bigint not null,
    cache_read_tokens bigint not null,
    cost_micro_usd bigint not null,
    primary key (id, at)
) partition by range (at);
create table usage_event_other partition of usage_event default;

-- Counters by SUBJECT:WINDOW, kept by the statement that inserts the events.
create table usage_total (
    id text collate "C" primary key,
    requests bigint not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cache_creation_5m_tokens bigint not null,
    cache_creation_1h_tokens bigint not null,
    cache_read_tokens bigint not null,
    cost_micro_usd bigint not null
);

-- Makes the partition of a month. Called by every host, for this month and the next.
create function usage_event_partition(month timestamptz) returns void language plpgsql as $$
declare
    first date := date_trunc('month', month at time zone 'UTC');
    partition text := 'usage_event_' || to_char(first, 'YYYY_MM');
begin
    if to_regclass(partition) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('usage_event_partition'));
    execute format(
        'create table if not exists %I partition of usage_event for values from (%L) to (%L)',
        partition,
        to_char(first, 'YYYY-MM-DD" 00:00:00+00"'),
        to_char(first + interval '1 month', 'YYYY-MM-DD" 00:00:00+00"'));
exception
    -- The last partition has events of that month already: they, and those to come, stay there.
    when check_violation then null;
end
$$;
