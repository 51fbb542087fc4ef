-- Which accounts belong together.
create table account_group (
    id text collate "C" primary key,
    version bigint not null,
    deleted boolean not null,
    dirty boolean not null,
    expires_at bigint,
    fields jsonb not null,
    name text generated always as (fields ->> 'name') stored
);
create index account_group_dirty on account_group (version, id) where dirty;
create index account_group_expires_at on account_group (expires_at) where expires_at is not null;
create index account_group_deleted on account_group (id) where deleted;
