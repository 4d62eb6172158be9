-- What is known to be true of recorded attempts. Rows are only added; of several about one thing the last counts, and the
-- others are its history. With a hold it is the score of that attempt; without, the right answer (reference) to a question:
-- a step of a workflow given this input (its digest). Without score and reference it takes back what was said before.
-- source: person, or reference where the task brought one. settled: worked out from a reference before the answer's text
-- was forgotten. chance: the probability with which the question was drawn to be labelled.
create table label (
    no        integer primary key,
    workload  text not null,
    step      text not null,
    digest    text not null,
    hold      integer,
    score     real,
    reference text,
    comment   text,
    settled   integer not null default 0,
    source    text not null,
    who       text not null,
    chance    real,
    at        real not null
);

-- What became of an ended run's texts: the content policy that they were put under; null while they stand as they were.
alter table run add column kept text;
