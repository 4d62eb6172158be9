-- Where machines share a ledger (on Postgres), calls are carved from slices that a process holds there: `slice` is that hold.
alter table hold add column slice bigint;
create index hold_slice on hold (slice) where slice is not null;

-- What the shared ledger has yet to be told: questions to people, which are held there one by one and may be decided when
-- nobody is connected, and slices with a call whose post was corrected after they were settled.
create table owed (
    slice integer primary key
);
create trigger post_corrected after update of amount, tokens, attention on post begin
    insert or ignore into owed (slice) select slice from hold where hold.hold = new.hold and slice is not null;
end;
