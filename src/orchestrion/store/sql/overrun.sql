-- name: overrun
insert into overrun (hold, worker, bound, actual, margin, at, unit) values (?, ?, ?, ?, ?, ?, ?) on conflict (hold) do nothing;

-- name: worst
-- By worker, the overrun that asks for the highest bound; those of a bound of nothing apart.
select worker, unit, bound, actual, max(margin) from overrun group by worker, bound > 0;
