-- The epoch by which the nodes agree which store has the last word. One row.
create table epoch (
    id boolean primary key default true check (id),
    value bigint not null
);
insert into epoch (value) values (0);

-- Part of every statement that writes: refuses when the nodes have moved on to a later epoch than the writer's.
create function fence(writer bigint) returns boolean language plpgsql stable as $$
declare
    stored bigint := (select value from epoch);
begin
    if writer < stored then
        raise exception using errcode = 'SY001', message = stored::text;
    end if;
    return true;
end
$$;
