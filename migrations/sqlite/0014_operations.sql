-- What was counted before, taken over from another store: how much each total was raised by it.
-- imported_at: milliseconds since 1970, of the last time.
create table usage_opening (
    id                       text primary key not null,
    imported_at              integer not null,
    source                   text not null,
    requests                 integer not null,
    input_tokens             integer not null,
    output_tokens            integer not null,
    cache_creation_5m_tokens integer not null,
    cache_creation_1h_tokens integer not null,
    cache_read_tokens        integer not null,
    cost_micro_usd           integer not null
) strict, without rowid;

-- Long operations: the last hundred, and the lease of the one that runs.
create table operation (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
create index operation_dirty on operation (id) where dirty = 1;

-- To list the tombstones without the records.
create index api_key_deleted on api_key (id) where deleted = 1;
create index account_deleted on account (id) where deleted = 1;
create index session_deleted on session (id) where deleted = 1;
