-- name: review
-- Only where its money is held: the hold comes first in the batch, and may have been refused.
insert into review (hold, run, key, worker, wage, digest, shown, asked, deadline, state, minutes)
select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'open', ?10 where exists (select 1 from hold where hold = ?1);

-- name: review_taken
update review set state = 'taken' where hold = ? and state in ('decided', 'informed');

-- name: review_of_ended
-- A decision that came before its run ended another way is kept: if the run is taken up again, nobody is asked twice.
update review set state = 'withdrawn' where run = ? and state in ('open', 'asked', 'informed');

-- name: decide
update review set state = case when ?2 = 'ask' then 'asked' else 'decided' end,
                  decision = ?2, person = ?3, decided = ?4, minutes = ?5, text = ?6
where hold = ?1 and state = 'open' returning hold;

-- name: inform
update review set state = 'informed', information = ?2, informant = ?3 where hold = ?1 and state = 'asked' returning hold;

-- name: asked
select hold from review where state = 'asked';

-- name: reviews
-- One of the clauses below follows. Those of a hold and of a run find their rows by an index.
select v.hold, r.id, r.task, r.workflow, r.status, v.key, v.worker, v.wage, v.digest, v.shown, v.asked, v.deadline, v.state,
       v.decision, v.person, v.decided, v.minutes, v.text, v.information, v.informant, p.amount
from review v join run r on r.no = v.run left join post p on p.hold = v.hold

-- name: of_hold
where v.hold = :hold order by v.hold

-- name: of_run
where v.run = :run order by v.hold

-- name: of_batch
where (:open = 0 or (v.state in ('open', 'asked') and r.status in ('running', 'waiting'))) and (:batch is null or r.batch = :batch)
order by v.hold
