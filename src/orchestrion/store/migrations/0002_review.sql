-- Questions to people. Each stands for one call, and is known by its hold: written with it in one commit, so that a
-- process that dies leaves either both or none. `shown` is exactly what the person sees, `digest` its digest.
-- state: open → decided → taken; open → asked (it needs information) → informed → taken; or withdrawn.
-- taken: the run has gone on with it.
create table review (
    hold        integer primary key,
    run         integer not null,
    key         text not null,
    worker      text not null,
    wage        integer not null,
    digest      text not null,
    shown       blob,
    asked       real not null,
    deadline    real,
    state       text not null,
    decision    text,
    person      text,
    decided     real,
    minutes     real not null,
    text        blob,
    information blob,
    informant   text
);
create index review_run on review (run);
create index review_state on review (state) where state in ('open', 'asked', 'decided', 'informed');
