"""Whatever policies are put together, and whatever their workers answer: the promises that the engine builds on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrion import Step, agreement, best_effort, cascade, corrected, fallback, fixed, retried, router
from orchestrion.checks.protocol import verdict
from orchestrion.domain import (
    UNLIMITED,
    Accept,
    Ask,
    Attempt,
    Call,
    Failure,
    Funds,
    Outcome,
    Price,
    Reply,
    Stop,
    Task,
    Usage,
    usd,
)
from orchestrion.engine.execution import House
from orchestrion.engine.workflow import Runner, Start, one_step
from orchestrion.errors import WorkerFailed
from orchestrion.journal.codec import decode_calls, encode_calls
from orchestrion.policy.combinators import Mix, chance, mix
from orchestrion.policy.learned import deferral, scored_router
from orchestrion.policy.protocol import dump_policy, load_policy
from orchestrion.telemetry import Tracing
from orchestrion.testing import MemoryJournal, MemoryLedger, ScriptedWorker
from orchestrion.workers.replay import ReplayWorker

WORKERS = "abcd"
BOUND = 100  # of every call, so that sums are easy to read
NAMES = st.sampled_from(WORKERS)


SCORES = st.dictionaries(
    st.sampled_from(["one", "tag:kind=x", "share", "distinct", "answer:x", *(f"length:{w}" for w in WORKERS)])
    | st.sampled_from([f"{form}:{w}" for form in ("share", "agree", "asked", "cost", "empty") for w in WORKERS])
    | st.sampled_from([f"verdict:{w}:looks" for w in WORKERS]),
    st.floats(-3, 3),
    max_size=4,
)


def _deferral(workers, score, least, otherwise):
    """What looks at a worker that is asked only afterwards is refused: leave that out."""
    later = otherwise.calls().keys() - workers.keys()
    seen = {name: value for name, value in score.items() if not later.intersection(name.split(":"))}
    return deferral(workers, seen, least=least, otherwise=otherwise)


def _wraps(inner):
    some = st.lists(inner, min_size=1, max_size=3)
    times = st.integers(1, 2)
    return st.one_of(
        some.map(lambda p: cascade(*p)),
        some.map(lambda p: fallback(*p)),
        st.builds(lambda a, b: router("kind", {"x": a}, otherwise=b), inner, inner),
        st.builds(lambda a, b, salt: Mix((a, b), (0.5, 0.5), salt), inner, inner, st.sampled_from("st")),
        st.builds(lambda p, n: corrected(p, times=n), inner, times),
        st.builds(lambda p, n: retried(p, times=n), inner, times),
        inner.map(best_effort),
        st.builds(_deferral, st.dictionaries(NAMES, times, min_size=1, max_size=3), SCORES, st.floats(-2, 2), inner),
        st.builds(
            lambda value, a, b: scored_router({"tag:kind=x": value}, least=0.5, above=a, below=b),
            st.floats(-2, 2),
            inner,
            inner,
        ),
    )


LEAVES = NAMES.map(fixed) | st.builds(
    lambda workers, samples, accept: agreement(*workers, samples=samples, accept=accept),
    st.lists(NAMES, min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.34, 0.5, 0.67, 1.0]),
)
POLICIES = st.recursive(LEAVES, _wraps, max_leaves=6)
TASKS = st.builds(
    lambda n, tag: Task(f"t{n}", "?", {"kind": tag}, None, "s"), st.integers(0, 3), st.sampled_from(["x", "y"])
)


@dataclass(frozen=True)
class World:
    """What workers answer and checks say, as a function of the call and how often it was answered before."""

    seed: int
    fails: float
    passes: float

    def attempt(self, call: Call, before: int, hold: int = 0) -> Attempt:
        def draw(what):
            return chance(str(self.seed), call.worker, str(call.sample), call.context or "", str(before), what)

        cost = int(draw("cost") * BOUND)
        if draw("fails") < self.fails:
            return Attempt(call, failure=Failure("http_500", f"failure {before}"), cost=BOUND, hold=hold)
        answer = "xy"[draw("answer") < 0.4]
        passed = draw("passes") < self.passes
        score = round(draw("score"), 1)
        said = verdict("looks", score if passed == (score >= 0.5) else 1 - score)
        return Attempt(call, answer, answer, answer, None, (said,), cost=cost, hold=hold)


WORLDS = st.builds(
    World, st.integers(0, 2**30), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.sampled_from([0.0, 0.3, 0.7, 1.0])
)


@dataclass
class Play:
    """One performance: the decisions' Asks, the history, the end, and what is left of the money."""

    asks: list[Ask]
    history: tuple[Attempt, ...]
    end: Accept | Stop
    left: int | None


def play(policy, task, world, *, left=None, history=()):
    """Perform a policy in a world, and check on the way what must hold at every step."""
    most, asked = policy.calls(), Counter[str]()
    asks: list[Ask] = []
    while True:
        funds = UNLIMITED if left is None else Funds(left, lambda call: BOUND)
        decision = policy.next(task, history, funds)
        assert decision == policy.next(task, history, funds) or isinstance(decision, Accept)  # pure
        if not isinstance(decision, Ask):
            if isinstance(decision, Accept):
                assert any(decision.attempt is attempt for attempt in history)
                assert decision.attempt.failure is None
                assert 0 <= decision.confidence <= 1
            else:
                assert decision.kind in ("failed", "checks", "funds")
                assert decision.reason
                assert left is not None or decision.kind != "funds"
            return Play(asks, history, decision, left)
        assert decision.calls
        assert len({repr(call) for call in decision.calls}) == len(decision.calls)  # a call twice at once is one call
        for call in decision.calls:
            assert all(
                attempt.failure for attempt in history if attempt.call == call
            )  # what was answered is not asked again
        asked.update(call.worker for call in decision.calls)
        assert all(asked[worker] <= most[worker] for worker in asked)  # so it ends
        if left is not None:
            assert len(decision.calls) * BOUND <= left
        asks.append(decision)
        for call in decision.calls:
            before = sum(attempt.call == call for attempt in history)
            attempt = world.attempt(call, before, hold=len(history) + 1)
            history += (attempt,)
            left = None if left is None else left - attempt.cost


@given(POLICIES, TASKS, WORLDS)
@settings(max_examples=200)
def test_it_ends_within_its_calls_and_accepts_what_was_answered(policy, task, world):
    play(policy, task, world)


@given(POLICIES, TASKS, WORLDS, st.integers(0, 12 * BOUND))
@settings(max_examples=200)
def test_it_never_asks_what_the_funds_cannot_pay(policy, task, world, left):
    assert play(policy, task, world, left=left).left >= 0


@given(POLICIES, TASKS, WORLDS, st.integers(0, 12 * BOUND))
def test_what_the_funds_changed_is_marked(policy, task, world, left):
    """An answer that another one was passed over for is not what was certified."""
    rich, poor = play(policy, task, world), play(policy, task, world, left=left)
    if isinstance(poor.end, Accept) and poor.asks != rich.asks:
        assert poor.end.constrained
    if isinstance(rich.end, Accept):
        assert not rich.end.constrained


@given(POLICIES, TASKS, WORLDS, st.data())
@settings(max_examples=200)
def test_a_crash_changes_no_decision(policy, task, world, data):
    """Some answers of the last Ask were lost with the process, and are asked again: the end is the same."""
    whole = play(policy, task, world)
    assume(whole.asks)
    crash = data.draw(st.integers(0, len(whole.asks) - 1), label="crash in ask")
    done = sum(len(ask.calls) for ask in whole.asks[:crash])
    kept = [
        a for a in whole.history[done : done + len(whole.asks[crash].calls)] if data.draw(st.booleans(), label="kept")
    ]
    resumed = play(policy, task, world, history=(*whole.history[:done], *kept))
    assert type(resumed.end) is type(whole.end)
    if isinstance(whole.end, Accept):
        assert resumed.end.attempt.call == whole.end.attempt.call
        assert resumed.end.confidence == whole.end.confidence
    else:
        assert resumed.end.kind == whole.end.kind
    answered = Counter(repr(attempt.call) for attempt in resumed.history)
    assert answered == Counter(repr(attempt.call) for attempt in whole.history)  # what was kept is not asked again


@given(POLICIES, TASKS, WORLDS)
def test_a_reference_is_never_seen(policy, task, world):
    told = Task(task.id, task.input, task.tags, "the truth", task.step)
    assert play(policy, told, world).asks == play(policy, task, world).asks


@given(POLICIES)
def test_any_policy_survives_json(policy):
    assert load_policy(dump_policy(policy)) == policy


@given(POLICIES, TASKS, WORLDS)
@settings(max_examples=50)
def test_calls_survive_the_journal(policy, task, world):
    """A remembered call must be the call that the policy asks about: corrections included."""
    for ask in play(policy, task, world).asks:
        noted = [(i, call) for i, call in enumerate(ask.calls)]
        assert decode_calls(encode_calls(noted)) == noted


# Live and replay: the same loop, over workers that answer and over what was recorded of them.

PRICE = Price(input=1_000_000, output=7_000_003)


def _live(world: World):
    """Workers of a world. The output carries what the check will say; a failed call may have been billed."""

    def worker(name):
        count = Counter[tuple[int, str | None]]()

        def script(request):
            call = (request.sample, request.context)
            attempt = world.attempt(
                Call(name, request.sample, ({"c": request.context},) if request.context else ()), count[call]
            )
            count[call] += 1
            if attempt.failure:
                raise WorkerFailed("http_500", "it failed", billed="unknown" if attempt.cost % 2 else "no")
            return Reply(f"{attempt.answer} {attempt.verdicts[0].score}", usage=Usage(attempt.cost, attempt.cost // 3))

        return ScriptedWorker(name, script, price=PRICE)

    return [worker(name) for name in WORKERS]


def _perform(policy, workers, task, *, checks):
    """The attempts of one run of a step, in order, and how it ended."""
    step = Step("s", policy=policy, checks=checks, answer=lambda text: text.split()[0])

    async def run():
        journal = MemoryJournal()
        runner = Runner(journal, House({worker.name: worker for worker in workers}, MemoryLedger(), Tracing()))
        done = await runner.run(one_step(step), Start(id=task.id, task_id=task.id, input=task.input, tags=task.tags))
        return done, [attempt for attempt, _ in journal.runs[task.id].attempts.values()]

    done, attempts = asyncio.run(run())
    shown = [
        (a.call, a.output, a.answer, a.failure and a.failure.kind, a.cost, [(v.passed, v.score) for v in a.verdicts])
        for a in attempts
    ]
    return (done.status, done.text, done.cost, shown), attempts


def _recorded(task, attempts, *, scores):
    """Outcomes of attempts, as `outcomes export` writes them."""
    return [
        Outcome(
            task_id=task.id,
            step="s",
            worker=a.call.worker,
            sample=a.call.sample,
            context=a.call.context,
            output=a.output,
            answer=a.answer,
            score=score,
            reference=str(score),
            input_tokens=None if a.failure else a.usage.input_tokens,
            output_tokens=None if a.failure else a.usage.output_tokens,
            cost_usd=usd(a.cost),
            failure=f"{a.failure.kind}: {a.failure.message}" if a.failure else None,
            verdicts={v.check: {"passed": v.passed, "score": v.score, "reason": v.reason} for v in a.verdicts},
        )
        for a, score in zip(attempts, scores, strict=True)
    ]


def looks(text):
    return float(text.split()[1])


def _replay(policy, outcomes, task, *, price, checks):
    workers = [ReplayWorker(name, [o for o in outcomes if o.worker == name], price=price) for name in WORKERS]
    return _perform(policy, workers, task, checks=checks)[0]


@given(POLICIES, TASKS, WORLDS, st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_live_and_replay_give_the_same_attempts(policy, task, world, random):
    live, attempts = _perform(policy, _live(world), task, checks=[looks])
    scores = [random.random() for _ in attempts]
    outcomes = _recorded(task, attempts, scores=scores)
    for price in (PRICE, None):  # from tokens, and from the dollars that were posted
        for checks in ([looks], []):  # checks asked again, and the recorded verdicts
            assert _replay(policy, outcomes, task, price=price, checks=checks) == live
    random.shuffle(scores)
    assert _replay(policy, _recorded(task, attempts, scores=scores), task, price=PRICE, checks=[looks]) == live


# Chance

DRAWS = """
from orchestrion import Task
from orchestrion.policy.combinators import mix
from orchestrion.domain import UNLIMITED
policy = mix({"a": 0.3, "b": 0.7}, salt="s")
print("".join(policy.next(Task(f"t{n}", "", {}, None, "step"), (), UNLIMITED).calls[0].worker for n in range(200)))
"""


def test_chance_is_a_hash_and_the_same_in_any_process():
    said = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", DRAWS], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
        )
        said.add(done.stdout.strip())
    assert len(said) == 1
    [draws] = said
    assert 40 <= draws.count("a") <= 80  # 60 expected


def test_chance_depends_on_salt_task_and_step():
    policy = mix({"a": 0.5, "b": 0.5}, salt="one")
    tasks = [Task(f"t{n}", "", {}, None, "s") for n in range(64)]

    def draws(policy, tasks):
        return [policy.next(task, (), UNLIMITED).calls[0].worker for task in tasks]

    assert draws(policy, tasks) == draws(policy, tasks)
    assert draws(policy, tasks) != draws(mix({"a": 0.5, "b": 0.5}, salt="two"), tasks)
    assert draws(policy, tasks) != draws(policy, [Task(task.id, "", {}, None, "another") for task in tasks])
    assert draws(policy, tasks) == draws(
        policy, [Task(task.id, "other input", {"k": "v"}, "truth", "s") for task in tasks]
    )
