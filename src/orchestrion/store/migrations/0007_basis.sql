-- What Asks were made under: the digest of the step's instructions and output schema, and the model ids of the workers that
-- were asked (JSON). One row for each that a process comes upon; the rows of asks carry its number.
create table basis (
    no           integer primary key,
    instructions text,
    models       text not null
);
alter table ask add column basis integer;
