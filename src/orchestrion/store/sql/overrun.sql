-- name: overrun
insert into overrun (hold, worker, bound, actual, margin, at) values (?, ?, ?, ?, ?, ?) on conflict (hold) do nothing;

-- name: worst
-- By worker, the overrun that asks for the highest bound; those of a bound of nothing apart.
select worker, bound, actual, max(margin) from overrun group by worker, bound > 0;
