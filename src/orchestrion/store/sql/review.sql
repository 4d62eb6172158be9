-- name: review
insert into review (hold, run, key, worker, wage, digest, shown, asked, deadline, state, minutes)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?);

-- name: review_taken
update review set state = 'taken' where hold = ? and state in ('decided', 'informed');

-- name: review_of_ended
-- A decision that came before its run ended another way is kept: if the run is taken up again, nobody is asked twice.
update review set state = 'withdrawn' where run = ? and state in ('open', 'asked', 'informed');

-- name: void_of_ended
insert into post (hold, kind, amount, at)
select review.hold, 'void', 0, ?2 from review
where review.run = ?1 and not exists (select 1 from post where post.hold = review.hold);

-- name: decide
update review set state = case when ?2 = 'ask' then 'asked' else 'decided' end,
                  decision = ?2, person = ?3, decided = ?4, minutes = ?5, text = ?6
where hold = ?1 and state = 'open' returning hold;

-- name: wage
insert into post (hold, kind, amount, at) values (?, ?, ?, ?);

-- name: inform
update review set state = 'informed', information = ?2, informant = ?3 where hold = ?1 and state = 'asked' returning hold;

-- name: asked
select hold from review where state = 'asked';

-- name: reviews
-- Of everything; `reviews.py` says which: a condition that may be null would keep SQLite from every index.
select v.hold, r.id, r.task, r.workflow, r.status, v.key, v.worker, v.wage, v.digest, v.shown, v.asked, v.deadline, v.state,
       v.decision, v.person, v.decided, v.minutes, v.text, v.information, v.informant, p.amount
from review v join run r on r.no = v.run left join post p on p.hold = v.hold
