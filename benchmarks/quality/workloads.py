"""Recorded outcomes as workloads: plain outcomes for the tuner, arrays for the baselines.

Every workload is one set of recorded tasks, the workers compared on it and the frontier among them. Tasks that lack one of
the workers (or samples that the worker's other tasks have) are left out; where a (task, worker, sample) occurs twice, the first is
taken; a task's prompt is taken from whichever row of the file has it. What is used, and why:

routellm_mmlu   Mixtral-8x7B -> GPT-4-1106: the pair of the RouteLLM paper. No text of answers, a subject as tag: routers only.
routellm_gsm8k  the same pair on arithmetic. Full answers of one sample each (no parsed ones), no tag: length and prompt only.
mmlu_pro        eight workers, frontier gemini-1.5-pro-002 (the best); cheap ones from Phi-3 to flash: agreement of two workers, 14 tags.
mmlu_pro_llama  the same tasks, Llama-3.1-8B -> 70B alone: one family, so errors go together, and a weak cheap worker.
mmlu_pro_flash  the same tasks, gemini-1.5-flash -> pro alone: a cheap worker that nearly keeps the target, at a sixteenth of the price.
mot_date        gpt-3.5-turbo in two prompt styles, 20 samples each -> gpt-4:greedy_cot2: agreement over samples and styles.
                (cot1_40 repeats cot1's rows, and the other gpt-4 variants cost what the frontier costs: left out.)
mot_gsm         llama-2-13b programs in two styles, 24 samples each -> gpt-4:greedy_cot2, with gpt-4:greedy_pot1, slightly cheaper and worse.
mot_asdiv       gpt-4 only, prompt styles that cost the same: nearly nothing can be saved, and nothing may be broken.
mot_navigate    the same, where all are right on nearly all tasks.
financebench    GPT-4 configurations whose cost is known, labelled by people: 106 tasks, the cheap ones (closed book) hardly ever right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from orchestrion.domain import Outcome
from orchestrion.evidence.records import read_outcomes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DATA = Path(__file__).parents[3] / "shared" / "data"

GPT4, MIXTRAL = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
PRO, FLASH = "gemini-1.5-pro-002", "gemini-1.5-flash-002"
LLAMA_70B, LLAMA_8B = "Meta-Llama-3_1-70B-Instruct", "Meta-Llama-3_1-8B-Instruct"
OPEN = (
    "Phi-3-mini-4k-instruct",
    "DeepSeek-Coder-V2",
    LLAMA_8B,
    "Mixtral-8x7B-Instruct-v0.1",
    LLAMA_70B,
    "Qwen1.5-110B",
)
STYLES = ("gpt-4:cot1", "gpt-4:cot2", "gpt-4:greedy_cot1")
FINANCE = ("gpt-4_closedBook", f"{GPT4}_closedBook", f"{GPT4}_oracle", "gpt-4_oracle")


@dataclass(frozen=True, slots=True)
class Spec:
    """Which rows of which file are a workload. ``tag`` is the tag that tag routers group by."""

    file: str
    recorded: str
    cheap: tuple[str, ...]
    frontier: str
    tag: str


SPECS: Mapping[str, Spec] = {
    "routellm_mmlu": Spec("routellm", "routellm_mmlu", (MIXTRAL,), GPT4, "subject"),
    "routellm_gsm8k": Spec("routellm", "routellm_gsm8k", (MIXTRAL,), GPT4, "benchmark"),
    "mmlu_pro": Spec("mmlu_pro", "mmlu_pro", (*OPEN, FLASH), PRO, "category"),
    "mmlu_pro_llama": Spec("mmlu_pro", "mmlu_pro", (LLAMA_8B,), LLAMA_70B, "category"),
    "mmlu_pro_flash": Spec("mmlu_pro", "mmlu_pro", (FLASH,), PRO, "category"),
    "mot_date": Spec("mot", "mot_date", ("gpt-3.5-turbo:cot1", "gpt-3.5-turbo:cot2"), "gpt-4:greedy_cot2", "benchmark"),
    "mot_gsm": Spec(
        "mot",
        "mot_gsm",
        ("llama-2-13b-chat:pot1", "llama-2-13b-chat:pot2", "gpt-4:greedy_pot1"),
        "gpt-4:greedy_cot2",
        "benchmark",
    ),
    "mot_asdiv": Spec("mot", "mot_asdiv", STYLES, "gpt-4:greedy_cot2", "benchmark"),
    "mot_navigate": Spec("mot", "mot_navigate", STYLES, "gpt-4:greedy_cot2", "benchmark"),
    "financebench": Spec("financebench", "financebench", FINANCE, f"{GPT4}_oracle_reverse", "question_type"),
}


@dataclass(frozen=True, slots=True)
class Answers:
    """One worker's samples of every task: arrays of shape (tasks, samples).

    ``score`` in [0, 1], ``cost`` in dollars, ``length`` in tokens of the output. ``code`` numbers a task's answers so that equal
    numbers in one task, over all workers, are equal texts; -1 where there is no answer.
    """

    score: Floats
    cost: Floats
    length: Ints
    code: Ints

    @property
    def samples(self) -> int:
        return int(self.score.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Complete tasks in the order of the records; row i of every array is ``tasks[i]``.

    ``group`` numbers the values of the workload's tag. ``outcomes`` are the rows behind the arrays, ``rows[i]`` those of task i.
    """

    name: str
    frontier: str
    cheap: tuple[str, ...]
    tasks: tuple[str, ...]
    prompts: tuple[str, ...]
    tags: tuple[Mapping[str, str], ...]
    group: Ints
    answers: Mapping[str, Answers]
    rows: tuple[tuple[Outcome, ...], ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def workers(self) -> tuple[str, ...]:
        return (*self.cheap, self.frontier)

    @property
    def outcomes(self) -> list[Outcome]:
        return [row for rows in self.rows for row in rows]

    def quality(self, worker: str) -> Floats:
        """The score of the worker's first sample."""
        first: Floats = self.answers[worker].score[:, 0]
        return first

    def cost(self, worker: str) -> Floats:
        """Dollars of the worker's first sample."""
        first: Floats = self.answers[worker].cost[:, 0]
        return first

    def matches(self, worker: str) -> Floats:
        """1 where the first answer is the frontier's. Where answers were not recorded, two right ones are the same and two wrong ones
        are not: this understates agreement."""
        own, frontier = self.answers[worker].code[:, 0], self.answers[self.frontier].code[:, 0]
        if (frontier < 0).all():
            return np.asarray((self.quality(worker) == 1) & (self.quality(self.frontier) == 1), float)
        return np.asarray((own == frontier) & (own >= 0), float)


def load(names: Iterable[str] = tuple(SPECS), data: Path = DATA, *, most: int = 0) -> dict[str, Workload]:
    """The workloads of these names; of one with more than ``most`` tasks (0: no limit) a random part, the same in every run.

    Raises RecordsError where a file is missing, KeyError for a name that is unknown.
    """
    return {name: _workload(name, SPECS[name], data, most) for name in names}


def workload_of(
    name: str, rows: Sequence[Outcome], cheap: tuple[str, ...], frontier: str, tag: str, most: int = 0
) -> Workload:
    """A workload from its rows: complete tasks, every worker's usual number of samples."""
    wanted = {*cheap, frontier}
    by_task: dict[str, dict[str, dict[int, Outcome]]] = defaultdict(lambda: defaultdict(dict))
    prompts: dict[str, str] = {}  # not every worker's rows carry them
    for row in rows:
        if row.prompt:
            prompts.setdefault(row.task_id, row.prompt)
    for row in rows:
        if row.worker in wanted:
            by_task[row.task_id][row.worker].setdefault(row.sample, replace(row, prompt=prompts.get(row.task_id)))
    usual = {
        worker: Counter(len(found[worker]) for found in by_task.values() if worker in found).most_common(1)[0][0]
        for worker in wanted
    }
    kept: dict[str, dict[str, list[Outcome]]] = {}
    for task, found in by_task.items():
        if all(len(found.get(worker, ())) >= usual[worker] for worker in wanted):
            kept[task] = {w: [one for _, one in sorted(found[w].items())][: usual[w]] for w in (*cheap, frontier)}
    if 0 < most < len(kept):
        chosen = set(np.random.default_rng(0).choice(list(kept), most, replace=False).tolist())
        kept = {task: found for task, found in kept.items() if task in chosen}
    first = [found[frontier][0] for found in kept.values()]
    return Workload(
        name=name,
        frontier=frontier,
        cheap=cheap,
        tasks=tuple(kept),
        prompts=tuple(row.prompt or "" for row in first),
        tags=tuple({key: str(value) for key, value in row.tags.items()} for row in first),
        group=_numbered([str(row.tags.get(tag)) for row in first]),
        answers=_answers(list(kept.values())),
        rows=tuple(tuple(row for rows in found.values() for row in rows) for found in kept.values()),
    )


def _workload(name: str, spec: Spec, data: Path, most: int) -> Workload:
    rows = [row for row in _rows(data / f"{spec.file}.jsonl.zst") if row.workload == spec.recorded]
    return workload_of(name, rows, spec.cheap, spec.frontier, spec.tag, most)


@cache
def _rows(path: Path) -> tuple[Outcome, ...]:
    return tuple(read_outcomes([path]))


def _answers(tasks: list[dict[str, list[Outcome]]]) -> dict[str, Answers]:
    codes: dict[str, list[list[int]]] = defaultdict(list)
    for found in tasks:
        seen: dict[str, int] = {}
        for worker, rows in found.items():
            codes[worker].append([-1 if row.answer is None else seen.setdefault(row.answer, len(seen)) for row in rows])
    return {
        worker: Answers(
            np.array([[row.score for row in found[worker]] for found in tasks], float),
            np.array([[row.cost_usd for row in found[worker]] for found in tasks], float),
            np.array([[row.output_tokens or 0 for row in found[worker]] for found in tasks], np.int64),
            np.array(codes[worker], np.int64),
        )
        for worker in tasks[0]
    }


def _numbered(values: Sequence[str]) -> Ints:
    order = {value: i for i, value in enumerate(sorted(set(values)))}
    return np.array([order[value] for value in values], np.int64)
