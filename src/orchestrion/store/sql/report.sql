-- name: runs
select no, id, workflow, task, status, wants, error, result, created, updated
from run where (:batch is null or batch = :batch) and (:run is null or id = :run) order by no;

-- name: calls
select a.run, a.scope, a.step, a.n, c.value ->> 0, c.value ->> 1, json_array_length(c.value, '$[3]') > 0,
       t.accepted, t.body, p.kind, p.amount, h.amount, v.hold is not null
from run r join ask a on a.run = r.no, json_each(a.calls) c
     left join attempt t on t.hold = c.value ->> 0
     left join post p on p.hold = c.value ->> 0
     join hold h on h.hold = c.value ->> 0 -- without one, another process was faster, and nobody was asked
     left join review v on v.hold = c.value ->> 0
where (:batch is null or r.batch = :batch) and (:run is null or r.id = :run)
order by c.value ->> 0;

-- name: newest
select batch, (select count(distinct batch) from run) from run order by no desc limit 1;

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
