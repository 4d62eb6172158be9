"""Bounds that were passed, bounds that are raised, and the words where a limit stands in the way."""

from __future__ import annotations

import math

import pytest

from orchestrion import cascade, fallback
from orchestrion.domain import FREE, Request, Task
from orchestrion.engine.bound import answerable
from orchestrion.ledger.accounts import Cap
from orchestrion.ledger.overruns import Overruns, statements, way_out
from orchestrion.ledger.protocol import Shortage
from orchestrion.ledger.words import missing, raise_command
from orchestrion.policy.combinators import fixed
from orchestrion.settings import ModelSettings, Settings
from orchestrion.staff import Staff
from orchestrion.store.database import Database
from orchestrion.telemetry import Tracing
from orchestrion.testing import ScriptedWorker
from orchestrion.workers.function import FunctionWorker
from orchestrion.workers.protocol import input_bound, margin_of, tokens_bound
from orchestrion.workers.wider import WiderWorker

ASK = Request(({"role": "user", "content": "hello"},), "t", "s")


async def test_a_worker_is_refused_until_its_margin_is_above_the_worst(tmp_path):
    database = Database(tmp_path / "o.db", statements=statements())
    overruns = Overruns(database)
    assert not overruns
    assert overruns.refusal("w", bound=100, margin=1.0) is None
    overruns.note(1, "w", bound=100, actual=150, margin=1.0)
    overruns.note(2, "w", bound=200, actual=220, margin=2.0)  # 2.2 times its own bound
    overruns.note(3, "w", bound=100, actual=110, margin=1.0)
    await database.writer.durable()
    for known in (overruns, Overruns(database)):  # in this process, and in the next
        assert known.refusal("w", bound=100, margin=2.2)
        assert known.refusal("w", bound=100, margin=2.3) is None
        assert known.refusal("other", bound=100, margin=1.0) is None
    await database.close()


async def test_a_bound_of_nothing_that_was_billed_is_refused_as_long_as_it_is_nothing(tmp_path):
    database = Database(tmp_path / "o.db", statements=statements())
    overruns = Overruns(database)
    overruns.note(1, "free", bound=0, actual=5, margin=1.0)
    await database.writer.durable()
    for known in (overruns, Overruns(database)):
        assert known.refusal("free", bound=0, margin=9.0)
        assert known.refusal("free", bound=10, margin=1.0) is None
    assert "until it has a price" in way_out("free", math.inf)
    await database.close()


@pytest.mark.parametrize(("margin", "said"), [(1.5, "1.6"), (1.59, "1.6"), (1.6, "1.7"), (12.0, "12.1")])
def test_the_way_out_is_above_the_margin(margin, said):
    assert f"models.w.bound: {said}" in way_out("w", margin)
    assert float(said) > margin


def test_a_wider_bound():
    inner = ScriptedWorker("w", [])
    wide = WiderWorker(inner, 1.6)
    assert (wide.name, wide.price, wide.margin, margin_of(inner)) == ("w", inner.price, 1.6, 1.0)
    assert wide.bound(ASK) == math.ceil(inner.bound(ASK) * 1.6)
    assert tokens_bound(wide, ASK) == math.ceil(tokens_bound(inner, ASK) * 1.6)


def test_the_settings_raise_a_bound():
    price = {"input": 1, "output": 4}
    models = {
        name: ModelSettings.model_validate({"model": "simulated", "price": price, "bound": bound})
        for name, bound in (("plain", 1), ("wide", 2))
    }
    staff = Staff(Settings(models=models), (), tracing=Tracing(), proceed=lambda: None)
    assert staff["wide"].bound(ASK) == 2 * staff["plain"].bound(ASK)
    assert (margin_of(staff["wide"]), margin_of(staff["plain"])) == (2.0, 1.0)


@pytest.mark.parametrize("bound", [0.9, 0, -1, "nan", "inf"])
def test_a_margin_that_is_none_is_refused(bound):
    with pytest.raises(ValueError, match="bound"):
        ModelSettings.model_validate({"model": "simulated", "bound": bound})


def test_tokens_at_most():
    class Plain:
        name = "plain"
        price = FREE

    assert tokens_bound(ScriptedWorker("w", [], max_output=7), ASK) == input_bound(ASK) + 7
    assert tokens_bound(Plain(), ASK) == input_bound(ASK) + 4096  # type: ignore[arg-type]  # a worker of the user's own
    assert tokens_bound(FunctionWorker("f", str), ASK) == 0


@pytest.mark.parametrize(
    ("policy", "refused", "can"),
    [
        (fixed("a"), {"a"}, False),
        (fixed("a"), {"b"}, True),
        (cascade("a", "b"), {"a"}, True),
        (fallback("a", "b"), {"a", "b"}, False),
    ],
)
def test_whether_somebody_else_answers(policy, refused, can):
    assert answerable(policy, Task("t", "x"), refused) is can


def short(unit="money", period="day", *, amount=100, settled=0, held=0, asked=0):
    cap = Cap(unit, period, amount)
    return Shortage(account="co/a", cap=cap, span="2026-11-21", settled=settled, held=held, asked=asked)


def test_the_reason_says_everything():
    one = short(amount=10**9, settled=970_000_000, held=20_000_000, asked=70_000_000)
    assert missing(one, asked="frontier") == (
        "account 'co/a' may spend $1.00 a day: $0.970 spent, $0.0200 held by other calls and open questions (2026-11-21). "
        "Asking frontier takes up to $0.0700 more. `orchestrion budget set co/a --limit 1.04 --period day` lets it, then the "
        "same command goes on."
    )
    assert "--limit 1.06 " in missing(one, asked="frontier", at_rest=True)
    assert "; 61 s were waited for that" in missing(one, asked="frontier", waited_s=61.2)
    assert "--limit 1.06 " in missing(one, asked="frontier", waited_s=61.2)


@pytest.mark.parametrize(
    ("shortage", "said"),
    [
        (short(settled=1, asked=639_999), "--limit 0.00064 --period day"),
        (short(settled=1, asked=2), "--limit 0.000000003 --period day"),
        (short(period="run", settled=10**9, asked=1), "--limit 1.01 --period run"),
        (short("tokens", "month", settled=4_000, asked=644), "--tokens 4700 --period month"),
        (short("attention", "forever", settled=60, asked=90), "--minutes 3 --period forever"),
    ],
)
def test_the_command_is_enough_and_can_be_typed(shortage, said):
    assert raise_command(shortage, shortage.needed) == f"orchestrion budget set co/a {said}"
