-- The catalogue of strategies: the host's own records, with the columns of every other kind.

create table strategy_version (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
create index strategy_version_dirty on strategy_version (id) where dirty = 1;

create table strategy_event (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
create index strategy_event_dirty on strategy_event (id) where dirty = 1;

create table strategy_state (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
create index strategy_state_dirty on strategy_state (id) where dirty = 1;
