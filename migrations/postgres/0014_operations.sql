-- What was counted before, taken over from another store: how much each total was raised by it.
create table usage_opening (
    id text collate "C" primary key,
    imported_at bigint not null,
    source text not null,
    requests bigint not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cache_creation_5m_tokens bigint not null,
    cache_creation_1h_tokens bigint not null,
    cache_read_tokens bigint not null,
    cost_micro_usd bigint not null
);
comment on column usage_opening.imported_at is 'milliseconds since 1970, of the last time';

-- Long operations: the last hundred, and the lease of the one that runs.
create table operation (like session including all);

-- To list the tombstones without the records.
create index api_key_deleted on api_key (id) where deleted;
create index account_deleted on account (id) where deleted;
create index session_deleted on session (id) where deleted;
