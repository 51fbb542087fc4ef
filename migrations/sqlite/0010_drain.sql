-- Marked records are carried over in order of version, and the oldest mark is told as the lag.

drop index api_key_dirty;
drop index account_dirty;
drop index session_dirty;
create index api_key_dirty on api_key (version, id) where dirty = 1;
create index account_dirty on account (version, id) where dirty = 1;
create index session_dirty on session (version, id) where dirty = 1;

-- What two nodes wrote of one record while each saw only one of the stores.
create table conflict_event (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
