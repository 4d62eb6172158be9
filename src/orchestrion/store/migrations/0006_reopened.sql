-- A run that ended badly and was reopened: how many Asks it had then. Failures among them are asked again, however often the
-- run is resumed before it comes so far.
alter table run add column reopened integer not null default 0;
