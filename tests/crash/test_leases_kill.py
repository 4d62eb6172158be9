"""kill -9 of processes that hold money on a ledger that machines share."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrion.ledger.accounts import Account, Cap
from tests.integration.test_leases import Machine, agree, balance, change, read
from tests.integration.test_ledger import Bank

ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, random, sys
from pathlib import Path
from tests.integration.test_leases import Machine
from tests.integration.test_ledger import Bank

async def hold_directly(address):
    bank = Bank(address)
    holds = [(await bank.hold("co/b", 10))[0] for _ in range(3)]
    await bank.post(holds[0], 4)
    print("ready", flush=True)
    await asyncio.sleep(600)

async def go(path, address, mode):
    if mode == "direct":
        await hold_directly(address)
    machine = Machine(Path(path), address)
    if mode == "hold":                      # two calls answered, one under way, and some of the slice unused
        holds = [(await machine.hold("co/b", 10))[0] for _ in range(3)]
        for hold in holds[:2]:
            machine.ledger.post(hold, (4, 0, 0), kind="post")
        await machine.database.writer.durable()
        print("ready", flush=True)
        await asyncio.sleep(600)
    chance = random.Random(path)
    async def lane():
        while True:
            asked = chance.randint(1, 9)
            if not await machine.call(chance.choice(["co/a", "co/b"]), asked, chance.randint(0, asked), takes=0.002):
                await asyncio.sleep(0.05)
    await asyncio.gather(*(lane() for _ in range(16)))

asyncio.run(go(*sys.argv[1:]))
"""


def start(path: Path, address: str, mode: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(path), address, mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout
    process.stdout.close()
    time.sleep(0.2)  # the server sees the connection end


@pytest.fixture
def address(postgres: str) -> str:
    change(postgres, Account(name="co", caps=(Cap("money", "forever", 40_000),)))
    change(postgres, Account(name="co/a", caps=(Cap("money", "day", 10_000),)), Account(name="co/b"))
    return postgres


async def test_its_own_file_tells_exactly_what_a_slice_came_to(address, tmp_path):
    child = start(tmp_path / "one.db", address, "hold")
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    kill(child)
    machine = Machine(tmp_path / "one.db", address)
    assert balance(address, "co") == (4 + 4 + 10, 0), "two are posted, one is unknown, the rest was never started"
    await machine.close()
    agree(address)


async def test_calls_held_on_postgres_itself_are_posted_in_full(address, tmp_path):
    child = start(tmp_path / "none.db", address, "direct")
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    kill(child)
    assert balance(address, "co") == (4, 20)
    bank = Bank(address)
    assert balance(address, "co") == (24, 0), "by whoever opens next"
    await bank.database.close()
    agree(address)


async def test_another_machine_posts_in_full_and_the_file_corrects_it(address, tmp_path):
    child = start(tmp_path / "one.db", address, "hold")
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    kill(child)
    [(held,)] = read(address, "select sum(amount)::bigint from hold where hold not in (select hold from post)")
    other = Machine(tmp_path / "two.db", address)
    settled, still = balance(address, "co")
    assert (settled, still) == (8 + held if settled != held else held, 0)
    assert ("unknown",) in read(address, "select kind from post")
    await other.close()
    machine = Machine(tmp_path / "one.db", address)
    assert balance(address, "co") == (18, 0)
    await machine.close()
    agree(address)


async def test_four_processes_on_two_files_and_kills(address, tmp_path):
    files = [tmp_path / "one.db", tmp_path / "two.db"] * 2
    children = [start(file, address, "spend") for file in files]
    for killed in range(6):
        await asyncio.sleep(1.5)
        kill(children[killed % 4])
        children[killed % 4] = start(files[killed % 4], address, "spend")
        assert all(balance(address, name)[0] + balance(address, name)[1] <= cap for name, cap in LIMITS)
    await asyncio.sleep(1.5)
    for child in children:
        kill(child)
    for file in files[:2] * 2:  # each may find what the other one left
        await Machine(file, address).close()
    agree(address)
    assert all(balance(address, name)[0] <= cap and balance(address, name)[1] == 0 for name, cap in LIMITS)
    spent = 0
    for file in files[:2]:
        machine = Machine(file, address)
        spent += machine.database.read("select coalesce(sum(amount), 0) from post")[0][0]
        await machine.close()
    assert spent == balance(address, "co")[0] > 0, (
        "the files' entries are what the shared ledger says, to the nano-dollar"
    )


LIMITS = (("co", 40_000), ("co/a", 10_000))
