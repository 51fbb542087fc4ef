-- What lists of keys are filtered and sorted by. In byte order, so that a page can begin where another store's ended,
-- and no longer than an index can hold.

alter table api_key
    add column created_at text collate "C"
        generated always as (left(coalesce(fields ->> 'createdAt', ''), 40)) stored,
    add column last_used_at text collate "C"
        generated always as (left(coalesce(fields ->> 'lastUsedAt', ''), 40)) stored,
    -- In this collation only A to Z have small letters, as in every other store.
    add column sort_name text collate "C"
        generated always as (left(lower(coalesce(fields ->> 'name', '') collate "C"), 200)) stored,
    add column state text generated always as (
        case when fields ->> 'isDeleted' = 'true' then 'deleted'
             when fields ->> 'isActive' = 'true' then 'active'
             else 'disabled' end) stored;

create index api_key_created_at on api_key (created_at, id) where not deleted;
create index api_key_last_used_at on api_key (last_used_at, id) where not deleted;
create index api_key_sort_name on api_key (sort_name, id) where not deleted;
create index api_key_state on api_key (state, created_at, id) where not deleted;
