"""10,000 holds from four processes that are killed again and again, while somebody changes the limits; on both stores.

Nobody here takes the ledger's word: a trigger in the database looks at every single hold in its own commit, and a process of its
own adds the entries up, again and again, and once more at the end. On Postgres each call is a hold of its own, without slices.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20
HOLDS = 10_000

WATCH_SQLITE = """
create table violation (hold, account, unit, period, used, cap);
create trigger watch after insert on hold begin
  insert into violation
  select new.hold, c.account, c.unit, c.period, b.settled + b.held, c.amount
  from cap c left join balance b on b.account = c.account and b.unit = c.unit and b.period = c.period and b.span =
       case c.period when 'day' then strftime('%Y-%m-%d', new.at, 'unixepoch')
                     when 'month' then strftime('%Y-%m', new.at, 'unixepoch') else '' end
  where (new.account = c.account or substr(new.account, 1, length(c.account) + 1) = c.account || '/')
    and case c.unit when 'money' then new.amount when 'tokens' then new.tokens else new.attention end > 0
    and (b.settled is null or b.settled + b.held > c.amount);
end;
"""
"""A hold that was inserted above a limit. Here nobody posts more than was held, so at the end of a commit that granted a hold
every limit above it must be kept, whatever else the commit did."""

WATCH_POSTGRES = """
create table violation (hold bigint, account text, unit text, period text, used bigint, cap bigint, balance text);
create table tally (account text, unit text, period text, span text, settled bigint, held bigint, primary key (account, unit, period, span));
create view line as
  select h.hold, c.account, c.unit, c.period, c.amount as cap, case c.unit when 'money' then h.amount else h.tokens end as asked,
         case c.period when 'forever' then ''
         else to_char(to_timestamp(h.at) at time zone 'utc', case c.period when 'day' then 'YYYY-MM-DD' else 'YYYY-MM' end) end as span
  from hold h join cap c on h.account = c.account or starts_with(h.account, c.account || '/');

create function held() returns trigger language plpgsql as $$ begin
  insert into tally select account, unit, period, span, 0, sum(asked) from line where hold in (select hold from added) group by 1, 2, 3, 4
  on conflict (account, unit, period, span) do update set held = tally.held + excluded.held;
  return null;
end $$;
create function posted() returns trigger language plpgsql as $$ begin
  insert into tally select account, unit, period, span, sum(case unit when 'money' then amount else tokens end), -sum(asked)
  from line join added using (hold) group by 1, 2, 3, 4
  on conflict (account, unit, period, span) do update set settled = tally.settled + excluded.settled, held = tally.held + excluded.held;
  return null;
end $$;
create function watch() returns trigger language plpgsql as $$ begin
  insert into violation
  select new.hold, account, unit, period, t.settled + t.held, cap, format('%s + %s', b.settled, b.held)
  from line join tally t using (account, unit, period, span) left join balance b using (account, unit, period, span)
  where hold = new.hold and asked > 0 and (t.settled + t.held > cap or (t.settled, t.held) is distinct from (b.settled, b.held));
  return null;
end $$;
create trigger held after insert on hold referencing new table as added for each statement execute function held();
create trigger posted after insert on post referencing new table as added for each statement execute function posted();
create constraint trigger watch after insert on hold deferrable initially deferred for each row execute function watch();
"""
"""The same, with sums of its own that the server makes of the entries: they must be within every limit, and what the balances say."""

SQLITE = '''
import apsw
from orchestrion.store.database import Database

CALLERS, WAIT, PAUSE, LOOK_S, ROOM, CHANGED = 25, 0.2, 0.02, 0.1, 60_000, 1


def opened():
    books = Books()
    database = Database(Path(where), statements=statements(), keeper=books)
    return database, EntryLedger(database, books)


def asked(*queries):
    """The rows of each query, all as of one moment."""
    with contextlib.closing(apsw.Connection(where)) as connection:
        connection.set_busy_timeout(30_000)
        connection.execute("begin")
        return [connection.execute(query).fetchall() for query in queries]
'''

POSTGRES = '''
import psycopg
from orchestrion.store.postgres import Postgres

CALLERS, WAIT, PAUSE, LOOK_S, ROOM, CHANGED = 150, 0.003, 0.1, 0.5, 300_000, 6
# A commit takes longer than a file's, so more calls share one, and so do changes of limits; who waits asks the server all the time.


def opened():
    books = Books()
    shared = Postgres(where, statements=statements(), keeper=books)
    return shared, EntryLedger(shared, books)


def asked(*queries):
    """The rows of each query, all as of one moment."""
    with psycopg.connect(where, options="-c search_path=orchestrion -c default_transaction_isolation=repeatable\\\\ read") as connection:
        return [connection.execute(query).fetchall() for query in queries]
'''

SCENE = '''
import asyncio, contextlib, json, os, random, signal, sys, time
from collections import Counter
from pathlib import Path
from orchestrion.ledger.accounts import Amounts
from orchestrion.ledger.books import Books, statements
from orchestrion.ledger.entries import EntryLedger

folder, holds_wanted, kills_wanted, watch, where = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
stop = folder / "stop"
UNITS = ["co/a", "co/b"]
CASES = [f"{unit}/{i}" for unit in UNITS for i in (1, 2)]
LEAVES = [f"{case}/{i}" for case in CASES for i in (1, 2, 3)]
CAPS = {"co": ["forever", "month"], **dict.fromkeys(UNITS, ["month", "day"]), **dict.fromkeys(CASES, ["day"]), **dict.fromkeys(LEAVES, ["day"])}
COLUMN = {"money": 0, "tokens": 1, "attention": 2}

# HERE


async def worker(seed):
    """Calls side by side, until somebody says stop."""
    chance = random.Random(seed)
    log = os.open(folder / f"log-{os.getpid()}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    database, ledger = opened()

    def note(*said):
        os.write(log, json.dumps(said).encode() + b"\\n")

    async def call():
        account = chance.choice(LEAVES)
        demands = [Amounts(chance.randint(1, 60), chance.randint(0, 40)) for _ in range(chance.choice((1, 1, 1, 3)))]
        holds = ledger.hold(account, demands, run=None)
        waited = False
        if holds is None and chance.random() < WAIT:
            waited, holds = True, await ledger.wait(account, demands, run=None)
        if holds is None:
            note("refused at once", len(demands))
            await asyncio.sleep(PAUSE)
            return
        await database.writer.durable()
        if ledger.refused(holds):
            await database.writer.durable()
            note("refused in the commit", len(demands))
            return
        note("held", account, [[hold, *asked] for hold, asked in zip(holds, demands)], waited)
        await asyncio.sleep(chance.random() * 0.01)
        ended = []
        for hold, asked in zip(holds, demands):
            kind = chance.choice(("post", "post", "post", "void"))
            spent = Amounts(chance.randint(0, asked.money), chance.randint(0, asked.tokens)) if kind == "post" else Amounts(0)
            ledger.post(hold, spent, kind=kind)
            if chance.random() < 0.05:
                ledger.post(hold, asked, kind="unknown")  # changes nothing
            ended.append([hold, kind, *spent])
        if chance.random() < 0.9:  # else: killed before anybody knows whether it was committed
            await database.writer.durable()
            note("ended", ended)

    async def slot():
        while not stop.exists():
            await call()
            await asyncio.sleep(chance.random() * 0.005)

    await asyncio.gather(*(slot() for _ in range(CALLERS)))
    await database.close()


def changer():
    """Limits that go up and down around what is used: something is always refused, and something goes through."""
    chance, books, changes, lowered = random.Random(7), Books(), 0, 0
    database, _ = opened()
    while not stop.exists():
        accounts = chance.sample(list(CAPS), CHANGED)
        with database.transaction() as session:
            for account in accounts:
                used = dict(session.execute("select unit || period, max(settled + held) from balance where account = $1 group by 1", (account,)))
                for period in CAPS[account]:
                    for unit in ("money", "tokens"):
                        now = used.get(unit + period, 0)
                        amount = max(0, now + chance.randint(-ROOM // 200, ROOM >> account.count("/")))
                        lowered += amount < now
                        session.execute("update cap set amount = $1 where account = $2 and unit = $3 and period = $4", (amount, account, unit, period))
            books.changed(session, accounts, time.time())
        changes += CHANGED
        time.sleep(0.01)
    (folder / "changer").write_text(json.dumps({"changes": changes, "lowered": lowered}))
    asyncio.run(database.close())


def sums():
    """Every balance there should be, from the entries alone; and every one that there is."""
    entries, balances = asked(
        "select h.account, h.at, h.amount, h.tokens, h.attention, p.amount, p.tokens, p.attention from hold h left join post p on p.hold = h.hold",
        "select account, unit, period, span, settled, held from balance",
    )
    settled, held = Counter(), Counter()
    for account, at, *numbers in entries:
        day, parts = time.strftime("%Y-%m-%d", time.gmtime(at)), account.split("/")
        for i in range(1, len(parts) + 1):
            for unit, column in COLUMN.items():
                for period, span in (("day", day), ("month", day[:7]), ("forever", "")):
                    key = "/".join(parts[:i]), unit, period, span
                    if numbers[3] is None:
                        held[key] += numbers[column]
                    else:
                        settled[key] += numbers[3 + column]
    return [(row, (settled[tuple(row[:4])], held[tuple(row[:4])])) for row in balances if tuple(row[4:]) != (settled[tuple(row[:4])], held[tuple(row[:4])])]


def checker():
    looks, wrong = 0, []
    while not stop.exists() and not wrong:
        wrong = sums()
        looks += 1
        time.sleep(LOOK_S)
    (folder / "checker").write_text(json.dumps({"looks": looks, "wrong": [repr(one) for one in wrong]}))


def forked(work):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback
            (folder / f"error-{os.getpid()}").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return pid


def main():
    database, _ = opened()
    with database.transaction() as session:
        for account, periods in CAPS.items():
            session.execute("insert into account (name, wait_s) values ($1, 0.05)", (account,))
            for period in periods:
                for unit in ("money", "tokens"):
                    session.execute("insert into cap (account, unit, period, amount) values ($1, $2, $3, 500)", (account, unit, period))
        Books().changed(session, list(CAPS), time.time())
        session.execute(watch)
    asyncio.run(database.close())

    chance = random.Random(3)
    seeds = iter(range(1000))
    workers = [forked(lambda seed=next(seeds): asyncio.run(worker(seed))) for _ in range(4)]
    helpers = [forked(changer), forked(checker)]
    killed, began = [], time.monotonic()
    try:
        while time.monotonic() - began < 90:
            time.sleep(chance.uniform(0.1, 0.5))
            if len(killed) < kills_wanted:
                victim = workers.pop(chance.randrange(4))
                os.kill(victim, signal.SIGKILL)
                assert os.WTERMSIG(os.waitpid(victim, 0)[1]) == signal.SIGKILL, victim
                killed.append(victim)
                workers.append(forked(lambda seed=next(seeds): asyncio.run(worker(seed))))
            elif asked("select count(*) from hold")[0][0][0] >= holds_wanted:
                break
    except BaseException:
        for pid in workers + helpers:  # else the test would wait for them
            os.kill(pid, signal.SIGKILL)
        raise
    stop.touch()
    signal.signal(signal.SIGALRM, lambda *_: [os.kill(pid, signal.SIGKILL) for pid in workers + helpers])
    signal.alarm(20)  # whoever hangs then has failed
    codes = [os.waitpid(pid, 0)[1] for pid in workers + helpers]
    signal.alarm(0)
    for _ in range(50):  # a server takes a moment to see that a process died
        database, _ = opened()  # whoever comes next clears up after the dead
        asyncio.run(database.close())
        if asked("select count(*) from process where ended is null") == [[(0,)]]:
            break
        time.sleep(0.1)
    wrong = [repr(one) for one in sums()]
    violations, [[held_left]], entries, [[orphans]], processes = asked(
        "select * from violation limit 5",
        "select count(*) from balance where held <> 0",
        "select h.hold, h.account, h.amount, h.tokens, p.kind, p.amount, p.tokens from hold h left join post p on p.hold = h.hold",
        "select count(*) from post where hold not in (select hold from hold)",
        "select no, pid, ended from process",
    )
    print(json.dumps({
        "codes": codes, "errors": [one.read_text() for one in folder.glob("error-*")], "killed": len(killed), "seconds": time.monotonic() - began,
        "violations": violations, "wrong": wrong, "held_left": held_left, "entries": entries, "orphans": orphans, "processes": processes,
        "victims": killed,
    }))


main()
'''


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_no_limit_is_passed_and_nothing_is_lost(tmp_path, store, request):
    here, watch, where = (
        (SQLITE, WATCH_SQLITE, str(tmp_path / "l.db"))
        if store == "sqlite"
        else (POSTGRES, WATCH_POSTGRES, request.getfixturevalue("postgres"))
    )
    script = tmp_path / "scene.py"
    script.write_text(SCENE.replace("# HERE", here))
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path), str(HOLDS), str(KILLS), watch, where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout)
    assert not end["errors"], end["errors"][0]
    assert set(end["codes"]) == {0}
    told = [json.loads(line) for log in tmp_path.glob("log-*") for line in whole_lines(log)]
    checker, changer = (json.loads((tmp_path / name).read_text()) for name in ("checker", "changer"))

    assert end["violations"] == [], "a hold was granted above a limit"
    assert checker["wrong"] == [], "at some commit a balance was not the sum of its entries"
    assert end["wrong"] == [], "at the end a balance is not the sum of its entries"
    assert end["held_left"] == 0
    assert end["orphans"] == 0

    entries = {hold: entry for hold, *entry in end["entries"]}
    assert len(entries) == len(end["entries"])
    check_told(told, entries)
    assert all(ended for _, _, ended in end["processes"]), "nobody was overlooked"
    killed = {no for no, pid, _ in end["processes"] if pid in end["victims"]}
    unknown = [hold for hold, entry in entries.items() if entry[3] == "unknown"]
    for hold in unknown:
        _, money, tokens, _, *booked = entries[hold]
        assert hold >> 32 in killed, "only the dead leave anything open"
        assert booked == [money, tokens], "in full"

    counts = {kind: sum(entry[3] == kind for entry in entries.values()) for kind in ("post", "void", "unknown")}
    refused = sum(one[1] for one in told if one[0].startswith("refused"))
    print(counts, "refused", refused, "changes", changer, "looks", checker["looks"], f"{end['seconds']:.1f} s")
    assert end["killed"] == KILLS
    assert len(entries) >= HOLDS
    assert counts["post"] > 1500
    assert counts["void"] > 500
    assert counts["unknown"] > KILLS
    assert refused > 1500
    assert any(one[0] == "refused in the commit" for one in told), "another process was faster"
    assert any(one[0] == "held" and one[3] for one in told), "somebody waited, and was served"
    assert changer["changes"] > 30
    assert changer["lowered"] > 10
    assert checker["looks"] > 10


def whole_lines(log: Path) -> list[bytes]:
    return log.read_bytes().splitlines()


def check_told(told: list[list], entries: dict[int, list]) -> None:
    """What a process knew to be durable before it was killed is there."""
    for what, *said in told:
        if what == "held":
            account, holds, _ = said
            for hold, money, tokens, _ in holds:
                assert entries[hold][:3] == [account, money, tokens]
        elif what == "ended":
            for hold, kind, money, tokens, _ in said[0]:
                assert entries[hold][3:] == [kind, money, tokens]
    assert all(entry[3] for entry in entries.values()), "nothing is left open"
