-- name: start
insert into process (token, pid, started) values (?, ?, ?) returning no;

-- name: open
select no, token from process where ended is null and token <> ?;

-- name: end
update process set ended = ? where no = ?;

-- name: free_runs
update run set owner = null, status = case when cancel = 1 and status in ('running', 'waiting') then 'cancelled' else status end
where owner = ?;

-- name: withdraw_cancelled
update review set state = 'withdrawn'
where state in ('open', 'asked', 'informed') and exists (select 1 from run where run.no = review.run and run.status = 'cancelled');
