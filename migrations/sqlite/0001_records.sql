-- The kinds of record that a relay serves. One table per kind; a tombstone is a row with deleted = 1.
-- version: microseconds, below 2^53. expires_at: milliseconds since 1970. fields: a JSON object of strings.

create table api_key (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null,
    hash       text generated always as (fields ->> 'apiKey') virtual
) strict;
create index api_key_dirty on api_key (id) where dirty = 1;
create index api_key_hash on api_key (hash) where deleted = 0 and hash <> '';

create table account (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
create index account_dirty on account (id) where dirty = 1;

create table session (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
create index session_dirty on session (id) where dirty = 1;

-- The kinds that this store is known to hold completely.
create table complete_kind (kind text primary key not null) strict, without rowid;

-- One row, written to prove that the store takes writes. at: milliseconds since 1970.
create table probe (id integer primary key check (id = 1), at integer not null) strict;
