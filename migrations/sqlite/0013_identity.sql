-- Who this data is, and what was last seen of Redis: a store that lost its data is known by the other's memory.

-- One row. beat rises twice a second; proven follows it whenever Redis could be compared with.
create table incarnation (
    one    integer primary key check (one = 1),
    id     text not null,
    beat   integer not null,
    proven integer not null
) strict;
insert into incarnation (one, id, beat, proven) values (1, lower(hex(randomblob(16))), 0, 0);

-- One row, once there is a Redis. mark: the greatest version that Redis had taken.
create table counterpart (
    one         integer primary key check (one = 1),
    incarnation text not null,
    mark        integer not null
) strict;
