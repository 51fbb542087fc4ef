-- What an event tells about the attempt that it is of.
alter table usage_event
    add column request_id text,
    add column partial boolean not null default false,
    add column counted_as text not null default '';
comment on column usage_event.partial is 'the answer did not come to its end';
comment on column usage_event.counted_as is 'the model as it stands in the ids of totals';

-- Finds whose usage there is without going through every window of it.
create index usage_total_of_all_time on usage_total (id) where id like '%:total';
