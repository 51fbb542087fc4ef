-- Who this data is, and what was last seen of Redis: a store that lost its data is known by the other's memory.

-- One row. `beat` rises twice a second; `proven` follows it whenever Redis could be compared with.
create table incarnation (
    one boolean primary key default true check (one),
    id text not null,
    beat bigint not null,
    proven bigint not null
);
insert into incarnation (id, beat, proven) values (md5(random()::text || clock_timestamp()::text), 0, 0);

-- One row, once there is a Redis.
create table counterpart (
    one boolean primary key default true check (one),
    incarnation text not null,
    mark bigint not null
);
comment on column counterpart.mark is 'the greatest version that Redis had taken';

-- The cluster and its timeline: another after a restore to a point in time or a failover. Empty where it is not told.
create function data_lineage() returns text language plpgsql stable as $$
begin
    return (select system_identifier::text from pg_control_system())
        || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
exception
    when others then return '';
end
$$;
