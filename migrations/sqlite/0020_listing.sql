-- What lists of keys are filtered and sorted by. The indexes hold the state, too: it is not read from every record.

alter table api_key add column created_at text
    generated always as (substr(coalesce(fields ->> 'createdAt', ''), 1, 40)) virtual;
alter table api_key add column last_used_at text
    generated always as (substr(coalesce(fields ->> 'lastUsedAt', ''), 1, 40)) virtual;
alter table api_key add column sort_name text
    generated always as (substr(lower(coalesce(fields ->> 'name', '')), 1, 200)) virtual;
alter table api_key add column state text generated always as (
    case when fields ->> 'isDeleted' = 'true' then 'deleted'
         when fields ->> 'isActive' = 'true' then 'active'
         else 'disabled' end) virtual;

create index api_key_created_at on api_key (created_at, id, state) where not deleted;
create index api_key_last_used_at on api_key (last_used_at, id, state) where not deleted;
create index api_key_sort_name on api_key (sort_name, id, state) where not deleted;
create index api_key_state on api_key (state, created_at, id) where not deleted;
