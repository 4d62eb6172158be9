-- The tree of accounts, its limits, and what is settled and held against each limit in each of its windows. An entry (hold,
-- post) and the balances that it moves are written in one transaction. Money is nano-dollars; `attention` is seconds of
-- people's time.
alter table hold add column tokens integer not null default 0;
alter table hold add column attention integer not null default 0;
alter table post add column tokens integer not null default 0;
alter table post add column attention integer not null default 0;

create table account (
    name    text not null primary key,
    class   text,
    zone    text,
    wait_s  double precision,
    warn    text
);

-- unit: money, tokens or attention. period: run, day, week, month or forever.
create table cap (
    account text not null,
    unit    text not null,
    period  text not null,
    amount  bigint not null,
    primary key (account, unit, period)
);

-- A window is named as people write it: 2026-11-21, 2026-W47, 2026-11, or nothing for good. `start` is when it began.
-- Limits of a run have no row: one process performs a run, and adds up what it spends.
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

-- What people, and the ledger itself, changed: set, move, apply, reconcile, overrun, warning. `body` is JSON.
create table change (
    no      integer primary key,
    at      double precision not null,
    who     text not null,
    kind    text not null,
    account text,
    body    text not null
);

-- Fractions of a limit that were passed, once for each window.
create table warning (
    account  text not null,
    unit     text not null,
    period   text not null,
    span     text not null,
    fraction double precision not null,
    at       double precision not null,
    primary key (account, unit, period, span, fraction)
);

-- Calls that were billed above what was held: their worker is refused until its bound is raised.
create table overrun (
    hold   bigint not null primary key,
    worker text not null,
    bound  bigint not null,
    actual bigint not null,
    margin double precision not null,
    at     double precision not null,
    unit   text not null
);

-- Processes whose calls wait for money that others hold: the account whose limit is short, the class of who waits, since when.
-- `at` says that they still do.
create table want (
    process bigint not null,
    account text not null,
    rank    bigint not null,
    since   double precision not null,
    at      double precision not null,
    primary key (process, account)
);

-- One row. `version` grows with every change of an account or a limit, so that every process hears of it.
create table books (
    version bigint not null
);
insert into books (version) values (0);
