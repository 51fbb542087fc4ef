-- Which accounts belong together.
create table account_group (
    id         text primary key not null,
    version    integer not null,
    deleted    integer not null,
    dirty      integer not null,
    expires_at integer,
    fields     text not null
) strict;
create index account_group_dirty on account_group (version, id) where dirty = 1;
create index account_group_deleted on account_group (id) where deleted = 1;
