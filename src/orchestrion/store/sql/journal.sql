-- name: claim
insert into run (no, id, workflow, batch, task, input, digest, tags, reference, account, policy, status, owner, created, updated)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running', ?, ?, ?)
on conflict (id) do nothing;

-- name: ask
insert into ask (run, scope, step, n, turn, digest, input, calls) values (?, ?, ?, ?, ?, ?, ?, ?);

-- name: attempt
insert into attempt (run, hold, worker, cost, accepted, output, body) values (?, ?, ?, ?, ?, ?, ?);

-- name: judged
update attempt set body = ? where run = ? and hold = ?;

-- name: accept
update attempt set accepted = ? where run = ? and hold = ?;

-- name: entry
insert into entry (hold, kind, account, amount, run, at) values (?, ?, ?, ?, ?, ?);

-- name: signal
insert into signal (run, name, value, at) values (?, ?, ?, ?) on conflict (run, name) do nothing;

-- name: finish
update run set status = ?, result = ?, error = ?, wants = ?, updated = ?, owner = null where no = ?;

-- name: cancel
update run set cancel = 1,
               status = case when owner is null and status in ('running', 'waiting') then 'cancelled' else status end,
               updated = ?
where no = ? and status in ('running', 'waiting');

-- name: reopen
update run set status = 'running', error = null, cancel = 0, owner = null where no = ? and status in ('failed', 'cancelled');

-- name: forget_run
update run set input = null, result = null, reference = null where no = ?;

-- name: forget_asks
update ask set input = null where run = ?;

-- name: forget_attempt
update attempt set output = ?, body = ? where run = ? and hold = ?;

-- name: take
update run set owner = ?, status = 'running', wants = null, updated = ? where no = ? and owner is null returning no;

-- name: find
select no, id, workflow, batch, task, input, digest, tags, reference, account, policy, status, owner, wants, result, error,
       cancel, created, updated,
       (select coalesce(sum(amount), 0) from entry where entry.run = run.no and kind <> 'hold')
from run where id = ?;

-- name: ids_of_batch
select id, status, owner from run where batch = ?;

-- name: asks
select scope, step, n, turn, digest, input, calls from ask where run = ? order by rowid;

-- name: attempts
select hold, worker, cost, accepted, output, body from attempt where run = ? order by hold;

-- name: entries
select hold, kind, account, amount, at from entry where run = ? and kind <> 'hold' order by hold;

-- name: signals
select name, value from signal where run = ?;

-- name: cancelled
select no from run where owner = ? and cancel = 1;

-- name: signalled
select run.no, run.id from run join signal on signal.run = run.no and signal.name = run.wants
where run.status = 'waiting' and run.owner is null;

-- name: finished_before
select no from run where status in ('done', 'failed', 'cancelled') and updated < ? and (input is not null or result is not null);

-- name: list_runs
select id, workflow, batch, status, owner is not null, created, updated, error, wants,
       (select coalesce(sum(amount), 0) from entry where entry.run = run.no and kind <> 'hold'),
       (select count(*) from entry where entry.run = run.no and kind = 'unknown')
from run
where (:status is null or status = :status) and (:batch is null or batch = :batch)
order by no desc limit :limit;

-- name: count_runs
select status, count(*) from run where :batch is null or batch = :batch group by status;

-- name: batch_cost
select coalesce(sum(e.amount), 0), coalesce(sum(e.kind = 'unknown'), 0)
from entry e join run r on r.no = e.run where r.batch = ? and e.kind <> 'hold';

-- name: runs_for_outcomes
select no, id, workflow, task, tags, reference, policy from run where :batch is null or batch = :batch order by no;
