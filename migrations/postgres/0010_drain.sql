-- Marked records are carried over in order of version, and the oldest mark is told as the lag.

drop index api_key_dirty;
drop index account_dirty;
drop index session_dirty;
create index api_key_dirty on api_key (version, id) where dirty;
create index account_dirty on account (version, id) where dirty;
create index session_dirty on session (version, id) where dirty;

-- What two nodes wrote of one record while each saw only one of the stores.
create table conflict_event (
    id text collate "C" primary key,
    version bigint not null,
    deleted boolean not null,
    dirty boolean not null,
    expires_at bigint,
    fields jsonb not null
);
create index conflict_event_expires_at on conflict_event (expires_at) where expires_at is not null;
