-- name: claim
insert into run (no, id, workflow, batch, task, input, digest, tags, reference, account, policy, status, owner, created, updated)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running', ?, ?, ?)
on conflict (id) do nothing;

-- name: ask
insert into ask (run, scope, step, n, turn, digest, input, calls, basis) values (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: basis
insert into basis (no, instructions, models) values (?, ?, ?);

-- name: attempt
insert into attempt (hold, worker, cost, accepted, output, body) values (?, ?, ?, ?, ?, ?);

-- name: judged
update attempt set body = ? where hold = ?;

-- name: accept
update attempt set accepted = ? where hold = ?;

-- name: signal
insert into signal (run, name, value, at) values (?, ?, ?, ?)
on conflict (run, name) do update set value = excluded.value, at = excluded.at where taken = 0;

-- name: taken
update signal set value = ?, taken = 1 where run = ? and name = ?;

-- name: finish
update run set status = case when cancel = 1 and ?1 in ('running', 'waiting') then 'cancelled' else ?1 end,
               result = ?2, error = ?3, wants = ?4, updated = ?5, owner = null
where no = ?6;

-- name: cancel
update run set cancel = 1,
               status = case when owner is null and status in ('running', 'waiting') then 'cancelled' else status end,
               updated = ?
where no = ? and status in ('running', 'waiting');

-- name: reopen
update run set status = 'running', error = null, cancel = 0, owner = null,
               reopened = (select count(*) from ask where ask.run = ?1)
where no = ?1 and status in ('failed', 'cancelled');

-- name: take
update run set owner = ?, status = 'running', wants = null, error = null, updated = ? where no = ? and owner is null and status in ('running', 'waiting');

-- name: exists
select 1 from run where id = ?;

-- name: find
select no, id, workflow, batch, task, input, digest, tags, reference, account, policy, status, owner, wants, result, error,
       cancel, created, updated,
       (select text from review where review.run = run.no and review.state = 'asked' limit 1),
       (select coalesce(sum(p.amount), 0) from ask a, json_each(a.calls) c join post p on p.hold = c.value ->> 0 where a.run = run.no)
from run where id = ?;

-- name: ids_of_batch
select id, status, owner from run where batch = ?;

-- name: reopened
select reopened from run where no = ?;

-- name: asks
select scope, step, n, turn, digest, input, calls, instructions, models from ask left join basis on basis.no = ask.basis
where run = ? order by ask.rowid;

-- name: attempts
select t.hold, t.worker, t.cost, t.accepted, t.output, t.body
from ask a, json_each(a.calls) c join attempt t on t.hold = c.value ->> 0
where a.run = ? order by t.hold;

-- name: posts
select p.hold, p.kind, p.amount
from ask a, json_each(a.calls) c join post p on p.hold = c.value ->> 0
where a.run = ? order by p.hold;

-- name: held
select 1 from hold where hold = ?;

-- name: signals
select name, value from signal where run = ?;

-- name: cancelled
select no from run where owner = ? and cancel = 1;

-- name: ready
select id from run
where status = 'waiting' and owner is null
  and (wants like 'funds %'
       or exists (select 1 from signal where signal.run = run.no and signal.name = run.wants)
       or exists (select 1 from review where review.run = run.no
                  and (review.state in ('decided', 'informed') or (review.state = 'open' and review.deadline <= :now))));

-- name: short
select id from run where status = 'waiting' and wants like 'funds %';

-- name: interrupted
select count(*) from run where status = 'running' and owner is null;

-- name: ready_one
select id from run
where id = :id and status = 'waiting' and owner is null
  and (wants like 'funds %'
       or exists (select 1 from signal where signal.run = run.no and signal.name = run.wants)
       or exists (select 1 from review where review.run = run.no
                  and (review.state in ('decided', 'informed') or (review.state = 'open' and review.deadline <= :now))));

-- name: list_runs
select id, workflow, batch, status, owner is not null, created, updated, error, wants,
       (select coalesce(sum(p.amount), 0) from ask a, json_each(a.calls) c join post p on p.hold = c.value ->> 0 where a.run = run.no),
       (select count(*) from ask a, json_each(a.calls) c join post p on p.hold = c.value ->> 0 where a.run = run.no and p.kind = 'unknown')
from run
where (:status is null or status = :status) and (:batch is null or batch = :batch)
order by no desc limit :limit;

-- name: count_runs
select status, count(*) from run where :batch is null or batch = :batch group by status;

-- name: runs_of_task
select id from run where task = ? order by no desc limit 3;

-- name: complete_run
select id from run where substr(id, 1, length(:begin)) = :begin order by no desc limit :most;

-- name: complete_batch
select batch from run where substr(batch, 1, length(:begin)) = :begin group by batch order by max(no) desc limit :most;

-- name: complete_account
select name from account where substr(name, 1, length(:begin)) = :begin order by name limit :most;

-- name: unknown_of_batch
select count(*), coalesce(sum(p.amount), 0)
from run r join ask a on a.run = r.no, json_each(a.calls) c join post p on p.hold = c.value ->> 0
where r.batch = ? and p.kind = 'unknown';
