-- Every event ever counted, so that a repeated one is recognised. at: milliseconds since 1970.
-- event: the event as JSON, complete. owed: 1 while the other store does not have it.
create table usage_event (
    id     text primary key not null,
    key_id text not null,
    at     integer not null,
    owed   integer not null,
    event  text not null
) strict, without rowid;
create index usage_event_owed on usage_event (id) where owed = 1;
create index usage_event_key on usage_event (key_id, at);

-- The events folded by SUBJECT:WINDOW. cost_micro_usd: millionths of a US dollar.
create table usage_total (
    id                       text primary key not null,
    requests                 integer not null,
    input_tokens             integer not null,
    output_tokens            integer not null,
    cache_creation_5m_tokens integer not null,
    cache_creation_1h_tokens integer not null,
    cache_read_tokens        integer not null,
    cost_micro_usd           integer not null
) strict, without rowid;
