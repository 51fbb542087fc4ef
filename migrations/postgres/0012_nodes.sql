-- The nodes that share this database, each with what it says about itself. Lost in a crash of the server: every
-- node says it again at once.
create unlogged table node (
    id text collate "C" primary key,
    holder text not null,
    line text not null,
    heard timestamptz not null
) with (fillfactor = 50);
comment on column node.holder is 'a random text from the data folder of the node that has this id';

-- Says that the catalogue has changed, so that every node looks at once.
create function switchyard_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('switchyard', new.id);
    return null;
end
$$;
create trigger strategy_state_changed after insert or update on strategy_state
    for each row execute function switchyard_changed();
create trigger strategy_version_changed after insert or update on strategy_version
    for each row execute function switchyard_changed();
