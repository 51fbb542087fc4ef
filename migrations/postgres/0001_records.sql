-- One table per kind of record. `fields` holds every field; the generated columns are for people and indexes.
-- Ids sort bytewise, as in every other store.

create table api_key (
    id text collate "C" primary key,
    version bigint not null,
    deleted boolean not null,
    dirty boolean not null,
    expires_at bigint,
    fields jsonb not null,
    name text generated always as (fields ->> 'name') stored,
    hash text generated always as (nullif(fields ->> 'apiKey', '')) stored,
    active boolean generated always as (fields ->> 'isActive' = 'true') stored,
    created text generated always as (fields ->> 'createdAt') stored
);
-- A hash index takes a value of any length.
create index api_key_hash on api_key using hash (hash) where not deleted;
create index api_key_dirty on api_key (id) where dirty;
create index api_key_expires_at on api_key (expires_at) where expires_at is not null;

create table account (
    id text collate "C" primary key,
    version bigint not null,
    deleted boolean not null,
    dirty boolean not null,
    expires_at bigint,
    fields jsonb not null,
    name text generated always as (fields ->> 'name') stored,
    active boolean generated always as (fields ->> 'isActive' = 'true') stored
);
create index account_dirty on account (id) where dirty;
create index account_expires_at on account (expires_at) where expires_at is not null;

create table session (
    id text collate "C" primary key,
    version bigint not null,
    deleted boolean not null,
    dirty boolean not null,
    expires_at bigint,
    fields jsonb not null
);
create index session_dirty on session (id) where dirty;
create index session_expires_at on session (expires_at) where expires_at is not null;

create table strategy_version (like session including all);
create table strategy_event (like session including all);
create table strategy_state (like session including all);

comment on column api_key.version is 'microseconds since 1970, a hybrid logical clock; only ever rises';
comment on column api_key.deleted is 'a tombstone: deleted at this version';
comment on column api_key.dirty is 'not yet in Redis';
comment on column api_key.expires_at is 'milliseconds since 1970 from which on the record is absent';

-- The kinds that this database is known to hold completely.
create table complete_kind (
    kind text primary key
);

-- One row that shows whether the database takes writes.
create table probe (
    id boolean primary key default true check (id),
    value bigint not null
);
