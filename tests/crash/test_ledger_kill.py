"""10,000 holds from four processes that are killed again and again, while somebody changes the limits.

Nobody here takes the ledger's word: a trigger in the database looks at every single hold in its own commit, and a process of its
own adds the entries up, again and again, and once more at the end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20
HOLDS = 10_000

WATCH = """
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

SCENE = '''
import asyncio, contextlib, json, os, random, signal, sys, time
from collections import Counter
from pathlib import Path
import apsw
from orchestrion.ledger.accounts import Amounts
from orchestrion.ledger.books import Books, statements
from orchestrion.ledger.entries import EntryLedger
from orchestrion.store.database import Database

folder, holds_wanted, kills_wanted, watch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
path, stop = folder / "l.db", folder / "stop"
UNITS = ["co/a", "co/b"]
CASES = [f"{unit}/{i}" for unit in UNITS for i in (1, 2)]
LEAVES = [f"{case}/{i}" for case in CASES for i in (1, 2, 3)]
CAPS = {"co": ["forever", "month"], **dict.fromkeys(UNITS, ["month", "day"]), **dict.fromkeys(CASES, ["day"]), **dict.fromkeys(LEAVES, ["day"])}
COLUMN = {"money": 0, "tokens": 1, "attention": 2}


def opened():
    books = Books()
    database = Database(path, statements=statements(), keeper=books)
    return database, EntryLedger(database, books)


async def worker(seed):
    """A hundred calls at once, until somebody says stop."""
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
        if holds is None and chance.random() < 0.2:
            waited, holds = True, await ledger.wait(account, demands, run=None)
        if holds is None:
            note("refused at once", len(demands))
            await asyncio.sleep(0.02)
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

    await asyncio.gather(*(slot() for _ in range(25)))
    await database.close()


def changer():
    """Limits that go up and down around what is used: something is always refused, and something goes through."""
    chance, books, changes, lowered = random.Random(7), Books(), 0, 0
    database, _ = opened()
    while not stop.exists():
        with database.transaction() as session:
            account = chance.choice(list(CAPS))
            used = dict(session.execute("select unit || period, max(settled + held) from balance where account = $1 group by 1", (account,)))
            for period in CAPS[account]:
                for unit in ("money", "tokens"):
                    now = used.get(unit + period, 0)
                    amount = max(0, now + chance.randint(-300, 60_000 >> account.count("/")))
                    lowered += amount < now
                    session.execute("update cap set amount = $1 where account = $2 and unit = $3 and period = $4", (amount, account, unit, period))
            books.changed(session, [account], time.time())
        changes += 1
        time.sleep(0.01)
    (folder / "changer").write_text(json.dumps({"changes": changes, "lowered": lowered}))
    asyncio.run(database.close())


def sums(connection):
    """Every balance there should be, from the entries alone; and every one that there is."""
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute("begin")
        entries = cursor.execute(
            "select h.account, h.at, h.amount, h.tokens, h.attention, p.amount, p.tokens, p.attention "
            "from hold h left join post p on p.hold = h.hold"
        ).fetchall()
        balances = cursor.execute("select account, unit, period, span, settled, held from balance").fetchall()
        cursor.execute("commit")
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
    connection, looks, wrong = apsw.Connection(str(path)), 0, []
    connection.set_busy_timeout(30_000)
    while not stop.exists() and not wrong:
        wrong = sums(connection)
        looks += 1
        time.sleep(0.1)
    (folder / "checker").write_text(json.dumps({"looks": looks, "wrong": [repr(one) for one in wrong]}))


def held():
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.set_busy_timeout(30_000)
        return connection.execute("select count(*) from hold").fetchall()[0][0]


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
    database.reader.execute(watch)
    asyncio.run(database.close())

    chance = random.Random(3)
    seeds = iter(range(1000))
    workers = [forked(lambda seed=next(seeds): asyncio.run(worker(seed))) for _ in range(4)]
    helpers = [forked(changer), forked(checker)]
    killed, began = [], time.monotonic()
    while time.monotonic() - began < 60:
        time.sleep(chance.uniform(0.1, 0.5))
        if len(killed) < kills_wanted:
            victim = workers.pop(chance.randrange(4))
            os.kill(victim, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(victim, 0)[1]) == signal.SIGKILL, victim
            killed.append(victim)
            workers.append(forked(lambda seed=next(seeds): asyncio.run(worker(seed))))
        elif held() >= holds_wanted:
            break
    stop.touch()
    signal.signal(signal.SIGALRM, lambda *_: [os.kill(pid, signal.SIGKILL) for pid in workers])
    signal.alarm(20)  # whoever hangs then has failed
    codes = [os.waitpid(pid, 0)[1] for pid in workers + helpers]
    signal.alarm(0)
    database, _ = opened()  # whoever comes next clears up after the dead
    asyncio.run(database.close())
    connection = apsw.Connection(str(path))
    print(json.dumps({
        "codes": codes, "errors": [one.read_text() for one in folder.glob("error-*")], "killed": len(killed), "seconds": time.monotonic() - began,
        "violations": connection.execute("select * from violation limit 5").fetchall(),
        "wrong": [repr(one) for one in sums(connection)],
        "held_left": connection.execute("select count(*) from balance where held <> 0").fetchall()[0][0],
        "entries": connection.execute(
            "select h.hold, h.account, h.amount, h.tokens, p.kind, p.amount, p.tokens from hold h left join post p on p.hold = h.hold"
        ).fetchall(),
        "orphans": connection.execute("select count(*) from post where hold not in (select hold from hold)").fetchall()[0][0],
        "processes": connection.execute("select no, pid from process").fetchall(),
        "victims": killed,
    }))


main()
'''


@pytest.mark.parametrize("store", ["sqlite"])  # and "postgres", with the fixture postgres_url
def test_no_limit_is_passed_and_nothing_is_lost(tmp_path, store):
    script = tmp_path / "scene.py"
    script.write_text(SCENE)
    command = [sys.executable, str(script), str(tmp_path), str(HOLDS), str(KILLS), WATCH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
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
    killed = {no for no, pid in end["processes"] if pid in end["victims"]}
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
