-- Processes that opened this database. Ids of runs and holds carry the number of the process that made them, so that
-- they need no round trip, and so that what a dead process left open can be found.
create table process (
    no       integer primary key,
    token    text not null unique,
    pid      integer not null,
    started  real not null,
    ended    real
);

-- One durable execution of a workflow. `wants` is the name of the signal that a waiting run waits for.
create table run (
    no        integer primary key,
    id        text not null unique,
    workflow  text not null,
    batch     text,
    task      text not null,
    input     blob,
    digest    text not null,
    tags      text,
    reference text,
    account   text not null,
    policy    text,
    status    text not null,
    owner     integer,
    wants     text,
    result    blob,
    error     text,
    cancel    integer not null default 0,
    created   real not null,
    updated   real not null
);
create index run_batch on run (batch, status);
create index run_owner on run (owner) where owner is not null;

-- Tables that every step writes only grow at their end: a commit of a hundred steps of a hundred runs writes few pages.
-- (Clustered by run, each row dirtied a page of its own: three times the time.)

-- The journal: what each step asked, under its key (run, scope, step, n). `calls` lists [hold, worker, sample, added].
create table ask (
    run     integer not null,
    scope   text not null,
    step    text not null,
    n       integer not null,
    turn    integer not null,
    digest  text not null,
    input   blob,
    calls   text not null
);
create index ask_run on ask (run);

-- What came of each call that was asked: the journal's memory and the evidence in one. `hold` names the call.
-- accepted: 1, or 2 where money was short.
create table attempt (
    hold     integer primary key,
    worker   text not null,
    cost     integer not null,
    accepted integer not null,
    output   blob,
    body     text not null
);

-- The ledger: money set aside before a call (hold), and what became of it (post): kind is post, unknown or void.
create table hold (
    hold    integer primary key,
    account text not null,
    amount  integer not null,
    run     integer,
    at      real not null
);
create table post (
    hold   integer primary key,
    kind   text not null,
    amount integer not null,
    at     real not null
);

-- Every entry of the ledger. Balances are sums of these. (By run, go through ask.calls: it is indexed.)
create view entry as
select hold, 'hold' as kind, account, amount, run, at from hold
union all
select post.hold, post.kind, hold.account, post.amount, hold.run, post.at from post join hold on hold.hold = post.hold;

-- What waiting runs are told. A value can be replaced until the workflow has taken it.
create table signal (
    run   integer not null,
    name  text not null,
    value blob not null,
    at    real not null,
    taken integer not null default 0,
    primary key (run, name)
) without rowid;
