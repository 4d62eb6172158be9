-- name: now
select extract(epoch from clock_timestamp())::double precision;

-- name: start
-- In one statement: nobody sees a process without its lock.
with new as (
    insert into process (token, pid, host, started) values ($1, $2, $3, extract(epoch from clock_timestamp())) returning no
)
select no, pg_advisory_lock($4::int, no::int) from new;

-- name: end
update process set ended = extract(epoch from clock_timestamp()), guessed = $1 where no = $2;

-- name: dead
-- A lock that can be had belongs to nobody: it is kept for this transaction. (Its own a process could have again.)
select no, token from process
where ended is null and no <> $1 and pg_try_advisory_xact_lock($2::int, no::int) order by no;

-- name: guessed
select no, token from process where guessed order by no;

-- name: exact
update process set guessed = false where no = $1;

-- name: open_holds
select hold from hold
where hold between $1 and $2 and not exists (select 1 from post where post.hold = hold.hold)
  and not exists (select 1 from question where question.hold = hold.hold)
order by hold;

-- name: open_questions
select hold from question
where hold between $1 and $2 and not exists (select 1 from post where post.hold = question.hold) order by hold;

-- name: posted_holds
select hold from post
where hold between $1 and $2 and not exists (select 1 from question where question.hold = post.hold) order by hold;

-- name: posted
select kind from post where hold = $1;

-- name: is_question
select hold from question where hold = $1;

-- name: question
insert into question (hold) values ($1);

-- name: held
select account, at, amount, tokens, attention from hold where hold = $1;

-- name: shrink
update hold set amount = $1, tokens = $2, attention = $3 where hold = $4;

-- name: wants
select account, rank, since from want where process <> $1 and at > $2;

-- name: want
insert into want (process, account, rank, since, at) values ($1, $2, $3, $4, $5)
on conflict (process, account) do update set rank = excluded.rank, since = excluded.since, at = excluded.at;

-- name: served
delete from want where process = $1;

-- name: wanted
select distinct account from want where process <> $1 and at > extract(epoch from clock_timestamp()) - 1;

-- name: balances
-- Of each limit the window that began last.
select distinct on (account, unit, period) account, unit, period, span, settled, held
from balance where account = any($1) order by account, unit, period, start desc;
