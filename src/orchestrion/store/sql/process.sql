-- name: start
insert into process (token, pid, started) values (?, ?, ?) returning no;

-- name: open
select no, token from process where ended is null and token <> ?;

-- name: end
update process set ended = ? where no = ?;

-- name: free_runs
update run set owner = null, status = case when cancel = 1 and status in ('running', 'waiting') then 'cancelled' else status end
where owner = ?;

-- name: void_cancelled
insert into post (hold, kind, amount, at)
select review.hold, 'void', 0, ? from review join run on run.no = review.run
where review.state = 'open' and run.status = 'cancelled' and not exists (select 1 from post where post.hold = review.hold);

-- name: withdraw_cancelled
update review set state = 'withdrawn'
where state in ('open', 'asked', 'informed') and exists (select 1 from run where run.no = review.run and run.status = 'cancelled');

-- name: book_open_holds
insert into post (hold, kind, amount, at)
select hold, 'unknown', amount, ? from hold
where hold between ? and ? and not exists (select 1 from post where post.hold = hold.hold)
  and not exists (select 1 from review where review.hold = hold.hold); -- a question outlives the process that put it
