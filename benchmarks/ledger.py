"""The ledger's figures beside floors and peers: python -m benchmarks.ledger all|entries|step|cap|show … [--rounds 5] [--quick]

Every figure comes from a fresh process; rounds are interleaved. On stdout: tables for benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import apsw

HERE = Path(__file__).parent
PEERS = HERE / "peers"
sys.path.insert(0, str(PEERS))  # the scripts there run in environments of their own

from benchmarks.heart import spread  # noqa: E402
from benchmarks.peers import cap as capped  # noqa: E402
from benchmarks.peers.measure import Engine, in_slots, increment  # noqa: E402
from benchmarks.peers.setup import environment  # noqa: E402
from orchestrion import Orchestrion  # noqa: E402
from orchestrion.ledger.accounts import Account, Amounts, Cap, ancestors  # noqa: E402
from orchestrion.ledger.books import Books, statements  # noqa: E402
from orchestrion.ledger.budgets import apply  # noqa: E402
from orchestrion.ledger.entries import EntryLedger  # noqa: E402
from orchestrion.settings import Settings  # noqa: E402
from orchestrion.store.database import CHECKPOINT_PAGES, Database  # noqa: E402
from orchestrion.store.session import Session  # noqa: E402

AT_ONCE = 100
LEAVES = [f"co/{unit}/{case}/{team}" for unit in "ab" for case in "12" for team in "xy"]
PLENTY = 10**15
SHOWN = 100_000


def accounts(*, limits: bool) -> list[Account]:
    """Eight accounts on the fourth level, and those above them; limited, each by money a day and money a month."""
    caps = (Cap("money", "day", PLENTY), Cap("money", "month", PLENTY)) if limits else ()
    return [Account(name=name, caps=caps) for name in dict.fromkeys(one for leaf in LEAVES for one in ancestors(leaf))]


def seed(session: Session, *, limits: bool) -> None:
    apply(session, accounts(limits=limits), who="benchmark")


# Hold and post, group-committed at 100 at once: µs for both


async def entries(variant: str, folder: Path, seconds: float) -> dict[str, float]:
    if variant == "floor":
        return bare_entries(folder / "bare.db", seconds)
    books = Books()
    database = Database(folder / "l.db", statements=statements(), keeper=books)
    with database.transaction() as session:
        seed(session, limits=variant == "limits")
    ledger, durable = EntryLedger(database, books), database.writer.durable
    asked, spent = [Amounts(300_000)], Amounts(120_000)

    async def slot(account: str, until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            holds = ledger.hold(account, asked, run=None)
            assert holds
            await durable()  # the call would start here
            assert not ledger.refused(holds)
            ledger.post(holds[0], spent, kind="post")  # durable with the next commit
            done += 1
        return done

    async def round_of(seconds: float) -> int:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(slot(LEAVES[i % len(LEAVES)], until) for i in range(AT_ONCE))))

    await round_of(0.2)
    began = time.perf_counter()
    done = await round_of(seconds)
    await durable()
    took = time.perf_counter() - began
    await database.close()
    return {"us": took / done * 1e6}


def bare_entries(file: Path, seconds: float) -> dict[str, float]:
    """The floor: the same rows and commits, from one loop that knows no limits and nobody who waits."""
    connection = apsw.Connection(str(file))
    connection.execute(
        f"pragma journal_mode = wal; pragma synchronous = full; pragma wal_autocheckpoint = {CHECKPOINT_PAGES}"
    )
    connection.execute("create table hold (hold integer primary key, account, amount, run, at, tokens, attention)")
    connection.execute("create table post (hold integer primary key, kind, amount, at, tokens, attention)")
    serial, done = count(1), 0
    posts: list[tuple[Any, ...]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        at = time.time()
        holds = [(next(serial), LEAVES[i % len(LEAVES)], 300_000, None, at, 0, 0) for i in range(AT_ONCE)]
        connection.execute("begin immediate")
        connection.executemany("insert into hold values (?, ?, ?, ?, ?, ?, ?)", holds)
        connection.executemany("insert into post values (?, ?, ?, ?, ?, ?)", posts)
        connection.execute("commit")
        posts = [(hold[0], "post", 120_000, at, 0, 0) for hold in holds]
        done += AT_ONCE
    return {"us": (time.perf_counter() - began) / done * 1e6}


# A whole durable step of the engine, at 100 at once, on accounts with limits and without


async def step(variant: str, folder: Path, seconds: float) -> dict[str, float]:
    from orchestrion_peer import Model, chain  # type: ignore[import-not-found]  # a script of benchmarks/peers

    flow, accounts_of_runs = chain(10), count()
    workers = [Model("cheap", increment), Model("frontier", increment)]

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Engine]:
        async with Orchestrion.open(Settings(database=f"sqlite:///{folder}/o.db"), workers=workers) as o:
            with o.database.transaction() as session:
                seed(session, limits=variant == "limits")
            o._ledger.refresh()

            async def run(id: str) -> int:
                done = await o.run(flow, 0, id=id, account=LEAVES[next(accounts_of_runs) % len(LEAVES)])
                return int(done.result)

            yield Engine(run)

    async with opened() as engine:
        return {"us": (await in_slots(engine, AT_ONCE, seconds))["us_per_step"]}


# `budget show` over many entries


async def show(variant: str, folder: Path, seconds: float) -> dict[str, float]:
    """Seconds of the whole command, on books of 100,000 holds and their posts."""
    file = folder / "o.db"
    (folder / "orchestrion.yaml").write_text(f"database: sqlite:///{file}\n")
    database = Database(file, statements=statements(), keeper=Books())
    now = time.time()
    with database.transaction() as session:
        rows = [(i, LEAVES[i % len(LEAVES)], 300_000, None, now - i % 86_400 * 20, 0, 0) for i in range(1, SHOWN + 1)]
        session.executemany(
            "insert into hold (hold, account, amount, run, at, tokens, attention) values ($1, $2, $3, $4, $5, $6, $7)",
            rows,
        )
        posts = [(row[0], "post", 120_000 + row[0] % 1000, row[4], 0, 0) for row in rows]
        session.executemany(
            "insert into post (hold, kind, amount, at, tokens, attention) values ($1, $2, $3, $4, $5, $6)", posts
        )
        seed(session, limits=True)
    await database.close()
    command = [sys.executable, "-m", "orchestrion", "budget", "show", "--config", str(folder / "orchestrion.yaml")]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: ASYNC221  # nothing else runs
    took = time.perf_counter() - began
    assert LEAVES[0].rpartition("/")[2] in done.stdout
    return {"ms": took * 1000}


WORK = {"entries": entries, "step": step, "show": show}
MEASURES = {
    "entries": ("hold + post, 100 at once, four levels", "µs", ("limits", "no limits", "floor")),
    "step": ("the engine's durable step, 100 at once", "µs", ("limits", "no limits")),
    "show": (f"`budget show`, {SHOWN:,} holds and posts", "ms", ("command",)),
}
WORDS = {
    "limits": "two limits on each level",
    "no limits": "no limits",
    "floor": "bare SQLite: the same rows and commits",
    "command": "the whole command",
}


def one(measure: str, variant: str, seconds: float) -> None:
    """A figure, in this process."""
    gc.set_threshold(50_000, 20, 50)  # as our command line does
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(WORK[measure](variant, Path(folder), seconds))))


def figure(measure: str, variant: str, seconds: float) -> float:
    """A figure, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ledger", "one", measure, variant, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent, timeout=120)
    [value] = json.loads(done.stdout).values()
    return float(value)


def table(measures: list[str], rounds: int, seconds: float) -> Iterator[str]:
    yield "| | | min / median / max | × the first |\n|---|---|---|---|"
    for measure in measures:
        title, unit, variants = MEASURES[measure]
        found: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(rounds):
            for variant in variants:
                found[variant].append(figure(measure, variant, seconds))
        for variant, values in found.items():
            ratio = median(values) / median(found[variants[0]])
            yield f"| {title} | {WORDS[variant]} | {spread(values)} {unit} | {ratio:.2f} |"
            title = ""


# A cap that pays for 20 calls, and 200 that are asked


@contextlib.contextmanager
def provider(folder: Path) -> Iterator[str]:
    """The model behind everybody: its base URL. It counts what it serves."""
    records = folder / "records.jsonl"
    records.write_text(json.dumps(capped.RECORD) + "\n")
    command = [sys.executable, "-m", "tests.acceptance.stub_server", "--records", str(records), "--latency", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def served(base_url: str) -> int:
    import urllib.request

    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/counts", timeout=10) as response:  # ours, on loopback
        return int(json.load(response)["total"]["requests"])


def under_the_cap(script: Path, python: Path, mode: str, name: str) -> dict[str, Any]:
    """One contender's 200 calls, beside a fresh provider."""
    own = python == Path(sys.executable)
    env = os.environ | ({} if own else {"PYTHONPATH": ""})
    with tempfile.TemporaryDirectory() as folder, provider(Path(folder)) as base_url:
        done = subprocess.run(
            [python, script, mode, name, base_url], capture_output=True, text=True, check=True, env=env, timeout=120
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found | {"served": served(base_url)}


def caps(rounds: int) -> Iterator[str]:
    here = Path(sys.executable)
    scripts = [("orchestrion", here), ("litellm", environment("litellm") / "bin" / "python"), ("naive", here)]
    yield f"| a cap of ${capped.CAP:.3f} pays for 20; 200 asked | | served | spent, of the cap | seconds |\n|---|---|---|---|---|"
    for mode, title in (("at_once", "all at once"), ("in_turn", "one after another")):
        for script, python in scripts:
            file = PEERS / f"{script}_cap.py"
            try:
                about = subprocess.run([python, file, "about"], capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError):
                yield f"| {title} | {script} | no environment: python -m benchmarks.peers.setup {script} | | |"
                continue
            told = json.loads(about.stdout)
            for name in told["contenders"]:
                found = [under_the_cap(file, python, mode, name) for _ in range(rounds)]
                n = sorted({one["served"] for one in found})
                of_20 = " to ".join(map(str, dict.fromkeys((n[0], n[-1]))))
                share = n[-1] * capped.COST / capped.CAP
                said = name if script != "litellm" else f"{name} ({told['versions']['litellm']})"
                yield f"| {title} | {said} | {of_20} | {share:.0%} | {spread([one['seconds'] for one in found])} |"
                title = ""  # noqa: PLW2901  # a title stands once


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], sys.argv[3], float(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", choices=["all", "cap", *MEASURES], default="all", metavar="MEASURE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that it works; no figures to keep"
    )
    arguments = parser.parse_args()
    rounds, seconds = (1, 0.2) if arguments.quick else (arguments.rounds, 1.0)
    asked = [*MEASURES, "cap"] if "all" in arguments.measures else arguments.measures
    load = os.getloadavg()[0]
    print(
        f"## The ledger · {datetime.date.today()} · Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}"
    )
    print(
        f"\n{os.cpu_count()} CPUs, load {load:.1f} at the start. Rounds interleaved; min / median / max of {rounds}.\n"
    )
    if arguments.quick:
        print("A quick trial: no figures to keep.\n")
    if measures := [name for name in asked if name in MEASURES]:
        for line in table(measures, rounds, seconds):
            print(line, flush=True)
    if "cap" in asked:
        print()
        for line in caps(rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
