-- name: hold
insert into hold (hold, account, amount, run, at, tokens, attention, slice) values ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: post
insert into post (hold, kind, amount, at, tokens, attention) values ($1, $2, $3, $4, $5, $6) on conflict (hold) do nothing;

-- name: owe
insert into owed (slice) values ($1);

-- name: told
-- Unless a post was corrected meanwhile.
delete from owed where slice = $1 and ($2, $3, $4) = (
    select sum(post.amount), sum(post.tokens), sum(post.attention) from hold join post on post.hold = hold.hold where hold.slice = $1
);

-- name: owed
-- Slices whose calls have all been posted, with what those took.
select owed.slice, sum(post.amount), sum(post.tokens), sum(post.attention), max(post.kind = 'unknown')
from owed join hold on hold.slice = owed.slice left join post on post.hold = hold.hold
group by owed.slice having count(*) = count(post.hold);

-- name: spent_of_slice
-- What the calls of a slice took. Of one without a post nobody knows: it counts in full.
select coalesce(sum(coalesce(post.amount, hold.amount)), 0), coalesce(sum(coalesce(post.tokens, hold.tokens)), 0),
       coalesce(sum(coalesce(post.attention, hold.attention)), 0), coalesce(max(coalesce(post.kind, 'unknown') = 'unknown'), 0)
from hold left join post on post.hold = hold.hold where hold.slice = $1;

-- name: noted
-- Whether a slice has calls here.
select 1 from hold where slice = $1 limit 1;

-- name: gone
-- Whether the process of a token was here, and has ended.
select 1 from process where token = $1 and ended is not null;
