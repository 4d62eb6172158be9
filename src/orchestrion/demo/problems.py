"""What can be wrong with a folder. Each turns a sound draft into one whose right answer is to ask the client."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from orchestrion.demo.cases import Problem
from orchestrion.demo.draft import Draft
from orchestrion.demo.names import GIVEN
from orchestrion.demo.papers import printed


def spoil(draft: Draft, problem: Problem) -> None:
    """Put `problem` into the draft's papers, and what to ask the client into its `missing`."""
    draft.missing.append(_SPOIL[problem](draft))


def _missing_w2(draft: Draft) -> str:
    paper = draft.w2s.pop(draft.dice.between(0, len(draft.w2s) - 1))
    return f"The W-2 from {paper.facts.employer} for {paper.facts.employee} is not in the folder."


def _illegible_box(draft: Draft) -> str:
    place = draft.dice.between(0, len(draft.w2s) - 1)
    number = draft.dice.pick((1, 2))
    draft.w2s[place] = replace(draft.w2s[place], smudged=frozenset({number}))
    return f"Box {number} of the W-2 from {draft.w2s[place].facts.employer} cannot be read."


def _no_birth_date(draft: Draft) -> str:
    place = draft.dice.between(0, len(draft.relatives) - 1)
    relative = draft.relatives[place]
    draft.relatives[place] = replace(relative, facts=relative.facts.model_copy(update={"birth_date": None}))
    return f"The birth date of {relative.facts.name} is given nowhere."


def _box_4_is_off(draft: Draft) -> str:
    place = draft.dice.between(0, len(draft.w2s) - 1)
    paper = draft.w2s[place]
    assert paper.facts.box4 is not None, "no draft has a smudge before it is spoiled"  # noqa: S101 - narrows the type
    off = paper.facts.box4 + Decimal(draft.dice.between(150_00, 900_00)) / 100
    draft.w2s[place] = replace(paper, facts=paper.facts.model_copy(update={"box4": off}))
    return f"Box 4 of the W-2 from {paper.facts.employer}, {printed(off)}, is not 6.2% of its box 3."


def _two_versions(draft: Draft) -> str:
    paper = draft.dice.pick(draft.w2s)
    assert paper.facts.box1 is not None, "no draft has a smudge before it is spoiled"  # noqa: S101 - narrows the type
    other = paper.facts.box1 + Decimal(draft.dice.between(400_00, 2_900_00)) / 100
    draft.copies.append(replace(paper, copy="C", facts=paper.facts.model_copy(update={"box1": other})))
    return (
        f"Two copies of the W-2 from {paper.facts.employer} differ in box 1: {printed(paper.facts.box1)} and "
        f"{printed(other)}."
    )


def _status_contradicted(draft: Draft) -> str:
    family = draft.taxpayers[0].name.split()[-1]
    draft.spouse_in_passing = f"{draft.dice.pick(GIVEN)} {family}"
    return f"The note asks for {draft.status.words}, yet speaks of a spouse, {draft.spouse_in_passing}."


_SPOIL: dict[Problem, Callable[[Draft], str]] = {
    Problem.MISSING_W2: _missing_w2,
    Problem.ILLEGIBLE_BOX: _illegible_box,
    Problem.NO_BIRTH_DATE: _no_birth_date,
    Problem.BOX_4_IS_OFF: _box_4_is_off,
    Problem.TWO_VERSIONS: _two_versions,
    Problem.STATUS_CONTRADICTED: _status_contradicted,
}
