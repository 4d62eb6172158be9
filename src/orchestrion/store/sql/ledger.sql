-- name: hold
insert into hold (hold, account, amount, run, at, tokens, attention) values ($1, $2, $3, $4, $5, $6, $7);

-- name: post
insert into post (hold, kind, amount, at, tokens, attention) values ($1, $2, $3, $4, $5, $6) on conflict (hold) do nothing;

-- name: version
select version from books;

-- name: changed
update books set version = version + 1;

-- name: accounts
select name, class, zone, wait_s, warn from account;

-- name: caps
select account, unit, period, amount from cap;

-- name: latest
select max(start) from balance;

-- name: balance
select settled, held from balance where account = $1 and unit = $2 and period = $3 and span = $4;

-- name: put_balance
insert into balance (account, unit, period, span, start, settled, held) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (account, unit, period, span) do update set settled = excluded.settled, held = excluded.held;

-- name: move_balance
update balance set settled = settled + $1, held = held - $2 where account = $3 and unit = $4 and period = $5 and span = $6;

-- name: drop_balances
delete from balance where account = $1;

-- name: newest
select max(at) from hold;

-- name: find_hold
select hold.account, hold.at, hold.amount, hold.tokens, hold.attention, post.amount, post.tokens, post.attention, post.kind
from hold left join post on post.hold = hold.hold where hold.hold = $1;

-- name: correct
update post set kind = $1, amount = $2, tokens = $3, attention = $4, at = $5 where hold = $6;

-- name: open_holds
-- A question to a person outlives the process that put it, unless its run was cancelled.
select hold, amount, tokens, attention from hold
where hold between $1 and $2 and not exists (select 1 from post where post.hold = hold.hold)
  and not exists (select 1 from review where review.hold = hold.hold);

-- name: open_questions_of_cancelled
select review.hold from review join run on run.no = review.run
where review.state in ('open', 'withdrawn') and run.status = 'cancelled' and not exists (select 1 from post where post.hold = review.hold);

-- name: open_questions_of_run
select review.hold from review
where review.run = $1 and not exists (select 1 from post where post.hold = review.hold);

-- name: spent_of_run
select coalesce(sum(p.amount), 0), coalesce(sum(p.tokens), 0), coalesce(sum(p.attention), 0),
       coalesce(sum(case when p.hold is null then h.amount else 0 end), 0),
       coalesce(sum(case when p.hold is null then h.tokens else 0 end), 0),
       coalesce(sum(case when p.hold is null then h.attention else 0 end), 0)
from ask a, json_each(a.calls) c join hold h on h.hold = c.value ->> 0 left join post p on p.hold = h.hold
where a.run = $1;

-- name: entries_between
-- What an account and those below it have settled and hold, of the holds made in a window.
select coalesce(sum(post.amount), 0), coalesce(sum(post.tokens), 0), coalesce(sum(post.attention), 0),
       coalesce(sum(case when post.hold is null then hold.amount else 0 end), 0),
       coalesce(sum(case when post.hold is null then hold.tokens else 0 end), 0),
       coalesce(sum(case when post.hold is null then hold.attention else 0 end), 0)
from hold left join post on post.hold = hold.hold
where (hold.account = $1 or substr(hold.account, 1, length($1) + 1) = $1 || '/') and hold.at >= $2 and hold.at < $3;

-- name: warn
insert into warning (account, unit, period, span, fraction, at) values ($1, $2, $3, $4, $5, $6)
on conflict (account, unit, period, span, fraction) do nothing returning fraction;

-- name: parked
-- What is held for open questions to people, under an account.
select hold.at, hold.amount, hold.tokens, hold.attention from review join hold on hold.hold = review.hold
where review.state = 'open' and (hold.account = $1 or substr(hold.account, 1, length($1) + 1) = $1 || '/')
  and not exists (select 1 from post where post.hold = hold.hold);

-- name: wants
select process, account, rank, since from want where at > $1;

-- name: want
insert into want (process, account, rank, since, at) values ($1, $2, $3, $4, $5)
on conflict (process, account) do update set rank = excluded.rank, since = excluded.since, at = excluded.at;

-- name: served
delete from want where process = $1 and at < $2;
