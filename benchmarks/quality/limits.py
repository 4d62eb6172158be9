"""What a tuning may take, and what its policy may not look at: python -m benchmarks.quality.limits [--sizes 400x25,9000x8] [--workloads …]

Sizes (tasks x workers, records made here): wall time and peak memory of `orchestrion tune` as a whole process, twice: whether both wrote
the same policy; its size; and, in a process of its own, how long loading and deciding take, and whether that imported the statistics stack.

Workloads: a policy tuned on some of the tasks is replayed on the rest twice, the second time with scores and references shuffled over all rows:
how many of the tasks were decided otherwise (which answer was taken, who was asked, what it cost).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from msgspec.structs import replace

from benchmarks.quality.judge import resamples, stream
from benchmarks.quality.tuned import rows
from benchmarks.quality.versions import among, versions
from benchmarks.quality.workloads import DATA, SPECS, load
from orchestrion.domain import Outcome
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.evidence.records import write_outcomes
from orchestrion.tuning.facts import Wish
from orchestrion.tuning.tune import tune

WORDS = [f"word{n}" for n in range(3000)]
DECIDE = """
import json, sys, time
from orchestrion.domain import UNLIMITED, Accept, Ask, Attempt, Call, Task, Usage
from orchestrion.evidence.records import read_outcomes
from orchestrion.policy.protocol import load_policy
from pathlib import Path

started = time.perf_counter()
policy = load_policy(json.loads(Path(sys.argv[1]).read_text())["policy"])
loaded = time.perf_counter() - started
tasks = {}
for row in read_outcomes([Path(sys.argv[2])]):
    cost = round(row.cost_usd * 1e9)
    attempt = Attempt(Call(row.worker, row.sample), row.output, row.output, row.answer, usage=Usage(1, row.output_tokens), cost=cost)
    tasks.setdefault(row.task_id, (Task(row.task_id, row.prompt, row.tags), {}))[1][row.worker, row.sample] = attempt
taken = []
for task, attempts in tasks.values():
    history, decision = (), None
    while decision is None or isinstance(decision, Ask):
        if decision:
            history += tuple(attempts[call.worker, call.sample] for call in decision.calls)
        started = time.perf_counter()
        decision = policy.next(task, history, UNLIMITED)
        taken.append(time.perf_counter() - started)
taken.sort()
heavy = [name for name in ("numpy", "scipy", "sklearn") if name in sys.modules]
print(json.dumps({"load": loaded, "median": taken[len(taken) // 2], "p99": taken[int(len(taken) * 0.99)], "heavy": heavy}))
"""


def main(argv: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.limits", description=__doc__, formatter_class=raw
    )
    parser.add_argument("--sizes", default="400x25,9000x8", help="tasks x workers, with commas between")
    parser.add_argument("--workloads", type=among(SPECS), default=list(SPECS) if DATA.is_dir() else [])
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args(argv)
    print(versions())
    for size in filter(None, wanted.sizes.split(",")):
        tasks, workers = map(int, size.split("x"))
        measure(tasks, workers, wanted.seed)
    for name in wanted.workloads:
        shuffled(name, wanted.seed)
    return 0


def measure(tasks: int, workers: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        records, first, second = (Path(scratch) / name for name in ("records.jsonl", "first.json", "second.json"))
        write_outcomes(records, outcomes(tasks, workers, seed))
        for policy in (first, second):
            seconds, peak = _tune(records, policy)
            print(f"{tasks} tasks x {workers} workers: {seconds:.1f} s, {peak / 2**20:.2f} GB", flush=True)
        same = first.read_bytes() == second.read_bytes()
        done = subprocess.run([sys.executable, "-c", DECIDE, first, records], capture_output=True, check=True)
        took = json.loads(done.stdout)
        print(
            f"  policy: {first.stat().st_size / 1000:.1f} kB, {'the same' if same else 'ANOTHER'} the second time, "
            f"loaded in {took['load'] * 1e3:.2f} ms; a decision: median {took['median'] * 1e6:.0f} µs, 99 % {took['p99'] * 1e6:.0f} µs; "
            f"imported: {', '.join(took['heavy']) or 'no statistics'}"
        )


def _tune(records: Path, policy: Path) -> tuple[float, int]:
    """Seconds and peak memory (kB) of a whole process."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "orchestrion", "tune", str(records), "--out", str(policy), "--quiet"]
    child = subprocess.Popen(command, cwd=records.parent, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"orchestrion tune ended with {child.returncode}")
    return time.perf_counter() - started, used.ru_maxrss


def outcomes(tasks: int, workers: int, seed: int) -> Iterable[Outcome]:
    """Records of workers of rising skill and price: four topics in words and tags, five possible answers, one of them right."""
    rng = stream("limits", seed, tasks, workers)
    for i in range(tasks):
        topic, hard = int(rng.integers(4)), float(rng.random())
        prompt = " ".join(WORDS[topic * 500 + int(n)] for n in rng.integers(0, 1000, 60))
        for worker in range(workers):
            skill = (worker + 1) / workers
            right = rng.random() < 1 - hard * (1 - skill * (0.6 + 0.1 * topic)) ** 0.5
            answer = "A" if right else "BCDE"[int(rng.integers(4))]
            length = int(rng.integers(40, 200) * (1 if right else 1.3))
            yield Outcome(
                workload="limits",
                task_id=f"task-{i}",
                tags={"topic": f"topic-{topic}"},
                worker=f"worker-{worker}",
                prompt=prompt,
                output=f"{'so ' * length}{answer}",
                answer=answer,
                reference="A",
                score=float(right),
                input_tokens=80,
                output_tokens=length,
                cost_usd=round(1e-5 * 30**skill * length, 9),
            )


def shuffled(name: str, seed: int, labels: int = 150) -> None:
    """Replay a tuned policy with the truth as it is, and with the truth of other rows."""
    workload = load([name], most=1000)[name]
    [sample] = resamples(workload, labels, 1, seed)
    promise = tune(rows(sample), Wish(frontier=workload.frontier, seed=seed)).promises[0]
    labelled = set(sample.labelled.tolist())
    rest = list(chain.from_iterable(found for i, found in enumerate(workload.rows) if i not in labelled))
    order = stream("shuffled", seed, name).permutation(len(rest))
    other = [
        replace(row, score=rest[k].score, reference=rest[k].reference)
        for row, k in zip(rest, order.tolist(), strict=True)
    ]
    first, second = (
        asyncio.run(replay(records, SavedPolicy(promise.policy, (), "tuned"), frontier=workload.frontier))
        for records in (rest, other)
    )
    changed = sum(
        [(a.call, a.cost) for a in one.attempts] != [(a.call, a.cost) for a in two.attempts]
        or (one.accepted and one.accepted.call) != (two.accepted and two.accepted.call)
        for one, two in zip(first.tasks, second.tasks, strict=True)
    )
    print(
        f"{name}: {changed} of {len(first.tasks)} decisions changed with shuffled truth "
        f"(score {first.quality or 0:.3f}, shuffled {second.quality or 0:.3f})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
