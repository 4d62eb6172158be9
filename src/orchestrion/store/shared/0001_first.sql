-- A ledger that many machines share: the tables of the SQLite file's ledger, in a schema of their own. Money is nano-dollars;
-- `attention` is seconds of people's time.

-- Processes that opened this ledger. One that lives holds an advisory lock by its number; the server frees it when the
-- connection ends. `token` is the process's in its own SQLite file. `guessed`: found dead by another machine, which posted its
-- open holds in full; whoever opens that file next knows better. Numbers begin beyond those of any SQLite file.
create table process (
    no      bigint generated always as identity (start with 16777216) primary key,
    token   text not null,
    pid     bigint not null,
    host    text not null,
    started double precision not null,
    ended   double precision,
    guessed boolean not null default false
);
create index process_open on process (no) where ended is null or guessed;

create table account (
    name    text not null primary key,
    class   text,
    zone    text,
    wait_s  double precision,
    warn    text
);

create table cap (
    account text not null,
    unit    text not null,
    period  text not null,
    amount  bigint not null,
    primary key (account, unit, period)
);

create table balance (
    account text not null,
    unit    text not null,
    period  text not null,
    span    text not null,
    start   double precision not null,
    settled bigint not null,
    held    bigint not null,
    primary key (account, unit, period, span)
);
create index balance_start on balance (start);

-- A hold is a slice that a process carves calls from, or one call of its own.
create table hold (
    hold      bigint not null primary key,
    account   text not null,
    amount    bigint not null,
    run       bigint,
    at        double precision not null,
    tokens    bigint not null default 0,
    attention bigint not null default 0
);
create index hold_account on hold (account, at);

create table post (
    hold      bigint not null primary key,
    kind      text not null,
    amount    bigint not null,
    at        double precision not null,
    tokens    bigint not null default 0,
    attention bigint not null default 0
);

create view entry as
select hold, 'hold' as kind, account, amount, run, at from hold
union all
select post.hold, post.kind, hold.account, post.amount, hold.run, post.at from post join hold on hold.hold = post.hold;

-- Holds for questions to people: they outlive the process that put them.
create table question (
    hold bigint not null primary key
);

create table change (
    no      bigint generated always as identity primary key,
    at      double precision not null,
    who     text not null,
    kind    text not null,
    account text,
    body    text not null
);

create table warning (
    account  text not null,
    unit     text not null,
    period   text not null,
    span     text not null,
    fraction double precision not null,
    at       double precision not null,
    primary key (account, unit, period, span, fraction)
);

create table overrun (
    hold   bigint not null primary key,
    worker text not null,
    bound  bigint not null,
    actual bigint not null,
    margin double precision not null,
    at     double precision not null
);

create table books (
    version bigint not null
);
insert into books (version) values (0);

-- What processes wait for, by the account whose limit stands in the way: others of a lower class, or that came later, leave
-- them their turn. A row counts for as long as it is fresh (`at`).
create table want (
    process bigint not null,
    account text not null,
    rank    bigint not null,
    since   double precision not null,
    at      double precision not null,
    primary key (process, account)
);

-- The words of the file's ledger, so that one SQL serves both: questions keep their holds, runs are their machines' own.
create view review as select hold, null::bigint as run, 'open' as state from question;
create view run as select null::bigint as no, null::text as status where false;
