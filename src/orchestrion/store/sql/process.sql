-- name: start
insert into process (token, pid, started) values (?, ?, ?) returning no;

-- name: open
select no, token from process where ended is null and token <> ?;

-- name: end
update process set ended = ? where no = ?;

-- name: free_runs
update run set owner = null where owner = ?;

-- name: book_open_holds
insert into entry (hold, kind, account, amount, run, at)
select h.hold, 'unknown', h.account, h.amount, h.run, ?
from entry h
where h.kind = 'hold' and h.hold between ? and ?
  and not exists (select 1 from entry p where p.hold = h.hold and p.kind <> 'hold');
