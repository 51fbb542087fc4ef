-- What an event tells about the attempt that it is of.
alter table usage_event
    add column request_id text,
    add column partial boolean not null default false;
comment on column usage_event.partial is 'the answer did not come to its end';
