-- name: label
insert into label (workload, step, digest, hold, score, reference, comment, settled, source, who, chance, at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: keep_run
update run set input = ?, reference = ?, error = ?, result = ?, kept = ? where no = ?;

-- name: keep_result
update run set result = ? where no = ?;

-- name: keep_ask
update ask set input = ?, calls = ? where rowid = ?;

-- name: keep_attempt
update attempt set output = ?, body = ? where hold = ?;

-- name: keep_review
update review set shown = ?, text = ?, information = ? where hold = ?;

-- name: keep_signal
delete from signal where run = ? and name = ?;

-- name: keep_label
update label set reference = ?, comment = ? where no = ?;

-- name: labels
select no, workload, step, digest, hold, score, reference, comment, settled, source, who, chance, at from label
order by no;

-- name: labels_of_run
select no, workload, step, digest, hold, score, reference, comment, settled, source, who, chance, at from label
where exists (select 1 from ask where ask.run = ? and ask.step = label.step and ask.digest = label.digest)
order by no;

-- name: runs
select no, id, workflow, task, tags, reference, policy, kept from run
where (:batch is null or batch = :batch) and substr(id, 1, length(:probes)) <> :probes order by no;

-- name: billed
select coalesce(sum(p.amount), 0) from run r join ask a on a.run = r.no, json_each(a.calls) c
     join post p on p.hold = c.value ->> 0
where (:batch is null or r.batch = :batch) and substr(r.id, 1, length(:probes)) <> :probes;

-- name: run
select no, id, workflow, task, tags, reference, policy, kept from run where no = ?;

-- name: texts_of_run
select batch, input, reference, error, result from run where no = ?;

-- name: asks_of_run
select rowid, input, calls from ask where run = ?;

-- name: reviews_of_run
select hold, shown, text, information from review where run = ?;

-- name: ended_otherwise
select no from run where status in ('done', 'failed', 'cancelled') and kept is not ? and kept is not 'gone';

-- name: ended_before
select no from run where status in ('done', 'failed', 'cancelled') and updated < ? and kept is not 'gone';

-- name: undelivered
select no, result from run where batch = ? and status = 'done' and result is not null;
