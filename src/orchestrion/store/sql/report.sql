-- name: runs
select no, id, workflow, task, status, wants, error, result, created, updated
from run where (:batch is null or batch = :batch) and (:run is null or id = :run) order by no;

-- name: asked
-- The calls that runs made, by an index; then one of the next two, and `calls`.
with asked as (
    select a.run, a.scope, a.step, a.n, c.value ->> 0 as hold, c.value ->> 1 as worker,
           json_array_length(c.value, '$[3]') > 0 as added
    from run r join ask a on a.run = r.no, json_each(a.calls) c
    where (:batch is null or r.batch = :batch) and (:run is null or r.id = :run)
),

-- name: of_runs
call as (select * from asked)

-- name: of_entries
-- With what is booked and no run's call: a join to the entries would look for each of them among all calls.
call as (
    select * from asked
    union all
    select run, null, null, null, hold, null, null from hold
    where hold not in (select hold from asked) and (:batch is null or run in (select no from run where batch = :batch))
)

-- name: calls
select h.hold, h.account, h.at, h.amount, p.kind, p.amount, r.no, r.id, c.scope, c.step, c.n, c.worker, c.added,
       t.accepted, t.body, v.hold is not null, v.decision, v.person, v.minutes
from call c join hold h on h.hold = c.hold left join run r on r.no = c.run
     left join post p on p.hold = h.hold left join attempt t on t.hold = h.hold left join review v on v.hold = h.hold
where (:account is null or h.account = :account or substr(h.account, 1, length(:account) + 1) = :account || '/')
  and (:since is null or h.at >= :since) and (:until is null or h.at < :until)
order by h.hold

-- name: spenders
-- Runs as those who spent something: whether `orchestrion models --check` or a judge's test made them is told by their names.
select no, id, workflow, batch, account, status, result, tags, updated from run order by no

-- name: accounts
-- Accounts that are kept, with their time zones, and others that something was booked on.
select name, zone from account
union all
select distinct hold.account, null from hold where hold.account not in (select name from account)
order by 1

-- name: batches
select distinct batch from run where batch is not null

-- name: newest
select batch, (select count(distinct batch) from run) from run where substr(id, 1, length(:probes)) <> :probes
order by no desc limit 1;

-- name: people
-- A decision of "(deadline)" is nobody's: it took no minutes.
select v.worker, count(*),
       coalesce(sum(v.decision = 'approve' and v.person <> '(deadline)'), 0),
       coalesce(sum(v.decision = 'modify'), 0),
       coalesce(sum(v.decision = 'reject' and v.person <> '(deadline)'), 0),
       coalesce(sum(v.decision = 'ask'), 0),
       coalesce(sum(v.person = '(deadline)'), 0),
       sum(v.decision is null and not (v.state = 'open' and r.status in ('running', 'waiting'))),
       sum(v.decision is null and v.state = 'open' and r.status in ('running', 'waiting')),
       sum(case when v.decision is null or v.person = '(deadline)' then 0.0 else v.minutes end),
       coalesce(sum(p.amount), 0)
from run r join review v on v.run = r.no left join post p on p.hold = v.hold
where (:batch is null or r.batch = :batch) and (:run is null or r.id = :run)
group by v.worker order by min(v.hold);

-- name: labelled
-- Whether any answer can have a score: somebody labelled, or tasks came with their right answer.
select exists(select 1 from label) or exists(select 1 from run where reference is not null);
