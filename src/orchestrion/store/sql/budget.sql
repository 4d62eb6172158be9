-- What people change of accounts and limits, and what they look at. $1, $2 …: the same statements for SQLite and Postgres.

-- name: put_account
insert into account (name, class, zone, wait_s, warn) values ($1, $2, $3, $4, $5)
on conflict (name) do update set class = excluded.class, zone = excluded.zone, wait_s = excluded.wait_s, warn = excluded.warn;

-- name: put_cap
insert into cap (account, unit, period, amount) values ($1, $2, $3, $4)
on conflict (account, unit, period) do update set amount = excluded.amount;

-- name: remove_cap
delete from cap where account = $1 and unit = $2 and period = $3;

-- name: remove_account
delete from account where name = $1;

-- name: used
select distinct account from hold;

-- name: change
insert into change (at, who, kind, account, body) values ($1, $2, $3, $4, $5);

-- name: changes
select at, who, kind, account, body from change where (cast($1 as text) is null or account = $1) order by no;

-- name: changes_by_people
select account, body from change where kind in ('set', 'move', 'apply');

-- name: entries
select h.account,
       sum(coalesce(p.amount, 0)), sum(coalesce(p.tokens, 0)), sum(coalesce(p.attention, 0)),
       sum(case when p.hold is null then h.amount else 0 end),
       sum(case when p.hold is null then h.tokens else 0 end),
       sum(case when p.hold is null then h.attention else 0 end),
       min(h.at)
from hold h left join post p on p.hold = h.hold
where h.at >= $1 and h.at < $2
group by h.account;

-- name: warnings
select account, unit, period, span, fraction, at from warning order by at;

-- name: overruns
select o.hold, h.account, o.worker, o.bound, o.actual, o.margin, o.at, o.unit
from overrun o join hold h on h.hold = o.hold order by o.at;

-- name: posted
select h.account, p.kind, p.amount, p.tokens, p.attention, h.at from hold h join post p on p.hold = h.hold where h.hold = $1;

-- name: unknown
select h.hold, h.account, p.amount, h.at, run.id,
       (select a.step from ask a, json_each(a.calls) c where a.run = h.run and c.value ->> 0 = h.hold limit 1),
       (select c.value ->> 1 from ask a, json_each(a.calls) c where a.run = h.run and c.value ->> 0 = h.hold limit 1)
from post p join hold h on h.hold = p.hold left join run on run.no = h.run
where p.kind = 'unknown' order by h.at, h.hold;

-- name: flows
select h.account, p.kind, sum(h.amount), sum(coalesce(p.amount, 0))
from hold h left join post p on p.hold = h.hold group by h.account, p.kind;

-- name: moves
select account, at, amount from hold
union all
select h.account, p.at, p.amount - h.amount from post p join hold h on h.hold = p.hold;
