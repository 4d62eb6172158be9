"""The two halves of the labelled tasks: on one policies are fitted and chosen, on the other what was chosen is certified."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from orchestrion.errors import RecordsError
from orchestrion.tuning.facts import Wish
from orchestrion.tuning.table import Case, Table

FIT = 0.28
"""The share of the labelled tasks to learn from. Labels are scarcer for the certificate than for the choice."""

LEAST_FIT = 10
MOST_FIT = 600
"""Beyond so many, learning is no better for more, and the certificate is."""


class Halves(NamedTuple):
    """``grouped``: some tasks are of one group, and so not independent."""

    fit: tuple[Case, ...]
    certify: tuple[Case, ...]
    grouped: bool
    notes: tuple[str, ...]


def split(table: Table, wish: Wish) -> Halves:
    """Split by task, or by group, by chance. Raises RecordsError where too little is labelled to split."""
    refuse_unlabelled(table, least=2)
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in table.labelled:
        groups[case.group].append(case)
    if len(groups) < 2:
        raise RecordsError(f"all labelled tasks are of one group ('{wish.group_by}'): nothing is left to certify on.")
    names = sorted(groups)
    order = np.random.default_rng(wish.seed).permutation(len(names))
    wanted = min(max(math.ceil(FIT * len(table.labelled)), min(LEAST_FIT, len(table.labelled) // 2)), MOST_FIT)
    fit: list[Case] = []
    certify: list[Case] = []
    for i in order:
        half = fit if len(fit) < wanted else certify
        half += groups[names[i]]
    if not certify:
        certify = groups[names[order[-1]]]
        fit = [case for case in fit if case not in certify]
    grouped = any(len(members) > 1 for members in groups.values())
    notes = []
    if grouped:
        notes.append(
            f"tasks of one '{wish.group_by}' stay together: {len(groups)} groups count as independent, and the test bets on groups."
        )
    return Halves(tuple(fit), tuple(certify), grouped, tuple(notes))


def refuse_unlabelled(table: Table, *, least: int) -> None:
    """Raises RecordsError where fewer tasks than that are labelled by chance."""
    if len(table.labelled) >= least:
        return
    few = "one task" if table.labelled else "no task"
    said = f"{few} of {len(table.labelled) + len(table.unlabelled)} has a score for every worker: nothing can be learned, let alone certified. "
    if any(case.picked for case in table.unlabelled):
        raise RecordsError(
            f"{said}The labels that are there were picked: they are of tasks on which answers differ, or look like it. Label some tasks "
            "that are drawn from all (`orchestrion outcomes label --out labels.csv --sample 50`), and keep the rows of unlabelled tasks: "
            "they show how often workers agree."
        )
    raise RecordsError(
        f"{said}Label tasks first: `orchestrion outcomes label --out labels.csv` (of a file: `--records FILE`)."
    )
