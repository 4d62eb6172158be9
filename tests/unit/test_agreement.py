"""The figures of a judge's test, against what they must be by hand, and what is said of them."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.cli.agreement import lines, meaning
from orchestrion.domain import dollars
from orchestrion.errors import RecordsError
from orchestrion.evidence.agreement import of_pairs, of_scored, wilson
from orchestrion.evidence.labelled import Pair, Scored, read_labelled


def scored(
    accepted: bool, passed: bool | None, n: int, *, output: str = "x", question: str | None = None
) -> list[Scored]:
    return [
        Scored(
            task_id=f"{accepted}{passed}{output}{i}",
            cluster=question or f"{accepted}{passed}{output}{i}",
            prompt=None,
            output=output,
            reference=None,
            accepted=accepted,
            passed=passed,
            score=None if passed is None else float(passed),
            cost=10,
        )
        for i in range(n)
    ]


def pair(label, one, two, *, longer="A>B", question="") -> Pair:
    a, b = ("xx", "x") if longer == "A>B" else ("x", "xx")
    return Pair(
        task_id=question, cluster=question, prompt=None, a=a, b=b, reference=None, label=label, decisions=(one, two)
    )


def pairs(*rows) -> list[Pair]:
    """(label, said with A first, said with B first, longer, how many)"""
    return [
        pair(label, one, two, longer=longer, question=f"{i}.{j}")
        for i, (label, one, two, longer, n) in enumerate(rows)
        for j in range(n)
    ]


def test_wilson_is_wilson():
    assert wilson(8, 10) == pytest.approx((0.4901, 0.9433), abs=1e-4)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share(kn):
    k, n = kn
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1


def test_a_confusion_table_by_hand():
    found = of_scored(
        scored(True, True, 40) + scored(True, False, 10) + scored(False, True, 20) + scored(False, False, 30)
    )
    assert (found.labels, found.questions, found.unanswered, found.cost) == (100, 100, 0, 10)
    assert found.agreement.value == pytest.approx(0.7)
    assert (found.agreement.low, found.agreement.high) == wilson(70, 100)
    assert found.sensitivity
    assert found.sensitivity.value == pytest.approx(0.8)
    assert found.specificity
    assert found.specificity.value == pytest.approx(0.6)
    assert found.kappa
    assert found.kappa.value == pytest.approx(0.4)
    assert found.majority == 0.5
    assert found.saving == pytest.approx(1 / (1 - 0.4**2 / (0.96)), rel=0.02)  # r = .408
    assert found.better
    assert found.length_bias is None, "all are as long"


def test_a_judge_that_passes_everything_is_not_better_than_the_majority():
    found = of_scored(scored(True, True, 80) + scored(False, True, 20))
    assert found.agreement.value == 0.8
    assert (found.gain.value, found.better, found.majority_says) == (0.0, False, "accepted")
    assert "not shown to be better than always saying 'accepted'" in meaning(found)[0]


def test_no_usable_answer_counts_as_refused_and_as_not_agreeing():
    found = of_scored(scored(True, None, 20) + scored(False, None, 20))
    assert (found.agreement.value, found.unanswered) == (0.0, 40)
    assert found.specificity
    assert found.specificity.value == 1.0
    assert any("without a usable answer" in line for line in lines("j", found, {}, dollars))


def test_few_labels_are_said_to_be_few():
    found = of_scored(scored(True, True, 6) + scored(False, False, 5))
    assert meaning(found) == ["11 labels are too few to conclude anything: label 30 at least, 100 for ± 0.10."]


def test_labels_of_one_kind_only_say_so():
    found = of_scored(scored(True, True, 40))
    assert (found.kappa, found.specificity, found.saving) == (None, None, None)
    assert "label some of the other kind" in meaning(found)[0]


def test_many_answers_to_one_question_widen_the_interval():
    """Forty labels of ten questions are not forty independent ones."""
    alone = of_scored(scored(True, True, 30) + scored(True, False, 10) + scored(False, False, 40))
    rows = [row for q in range(20) for row in scored(q < 10, q % 4 != 0 if q < 10 else False, 4, question=f"q{q}")]
    clustered = of_scored(rows)
    assert clustered.questions == 20
    assert clustered.agreement.high - clustered.agreement.low > alone.agreement.high - alone.agreement.low


def test_a_judge_that_likes_length_is_found_out():
    rng = random.Random(2)
    rows = [
        row
        for i in range(300)
        for good, long in ((rng.random() < 0.5, rng.random() < 0.5),)
        for row in scored(good, rng.random() < (0.9 if long else 0.5), 1, output=("x" * 9 if long else "x") + str(i))
    ]
    fair = scored(True, True, 60, output="xxxx") + scored(False, False, 60, output="x")
    found = of_scored(rows)
    assert found.length_bias
    assert found.length_bias.value == pytest.approx(0.4, abs=0.1)
    assert found.length_bias.beside(0) == 1
    assert any("favours longer answers" in sentence for sentence in meaning(found))
    assert of_scored(fair).length_bias is None, "no length among equals: not told"


def test_pairs_by_hand():
    found = of_pairs(
        pairs(
            ("A>B", "A>B", "A>B", "A>B", 30),  # right
            ("B>A", "B>A", "B>A", "B>A", 20),  # right
            ("A>B", "B>A", "B>A", "B>A", 10),  # wrong
            ("A>B", "A>B", "B>A", "B>A", 30),  # prefers the first shown, twice
            ("B>A", None, "B>A", "A>B", 10),  # nonsense
        )
    )
    assert found.agreement.value == 0.5
    assert found.decided
    assert found.decided.value == 0.6
    assert found.right_if_decided
    assert found.right_if_decided.value == pytest.approx(5 / 6)
    assert found.flips
    assert found.flips.value == pytest.approx(30 / 90)
    assert found.flips.n == 90
    assert found.first
    assert found.first.value == pytest.approx((30 + 20 + 10 + 60 + 10) / 190)
    assert found.sensitivity
    assert found.sensitivity.value == pytest.approx(0.8)
    assert found.specificity
    assert found.specificity.value == pytest.approx(0.6)
    assert found.unanswered == 10
    assert found.gain.value == pytest.approx(0.5 + 0.15 - 0.7)


def test_a_judge_that_always_says_tie_is_not_better_than_a_guess():
    """Where people say tie, too, a tie is worth more than the commonest label is."""
    found = of_pairs(pairs(*((["A>B", "A=B", "B>A"][i], "A=B", "A=B", "A>B", 20) for i in range(3))))
    assert (found.gain.value, found.better, found.majority_says) == (0.0, False, "A=B")


def test_a_judge_that_prefers_the_first_or_the_longer_is_found_out():
    first = of_pairs(pairs(("A>B", "A>B", "B>A", "A>B", 50), ("B>A", "A>B", "B>A", "A>B", 50)))
    assert first.first
    assert first.first.beside(0.5) == 1
    assert "It prefers what is shown first: always ask in both orders." in meaning(first)
    longer = of_pairs(pairs(("A>B", "A>B", "A>B", "A>B", 50), ("B>A", "A>B", "A>B", "A>B", 50)))
    assert longer.length_bias
    assert longer.length_bias.value == 0.5
    assert (
        longer.longer_favoured and longer.longer_favoured.value,
        longer.longer_right and longer.longer_right.value,
    ) == (1, 0.5)
    assert any("favours longer answers" in sentence for sentence in meaning(longer))


def test_a_noisy_judge_without_a_leaning_has_none():
    """The longer is right in 80 %: a judge with mistakes prefers it less often, and does not lean to the shorter for that."""
    found = of_pairs(
        pairs(
            ("A>B", "A>B", "A>B", "A>B", 240),
            ("A>B", "B>A", "B>A", "A>B", 80),
            ("B>A", "B>A", "B>A", "A>B", 60),
            ("B>A", "A>B", "A>B", "A>B", 20),
        )
    )
    assert found.longer_right
    assert found.longer_favoured
    assert found.longer_favoured.value < found.longer_right.value
    assert found.length_bias
    assert found.length_bias.value == pytest.approx(0)


def test_the_intervals_cover():
    """Of 200 judges that agree with 70 % of people, about 95 % have intervals that hold 0.7."""
    rng = random.Random(11)
    held = 0
    for _ in range(200):
        k = sum(rng.random() < 0.7 for _ in range(80))
        low, high = wilson(k, 80)
        held += low <= 0.7 <= high
    assert 180 <= held <= 198


# Reading


def written(tmp_path, *lines):
    file = tmp_path / "r.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return [file]


PAIR = {"task_id": "t", "response_a": "a", "response_b": "b", "label": "A>B", "judge": "j", "decisions": ["A>B", None]}
ROW = {"task_id": "t", "worker": "w", "output": "o", "score": 1, "verdicts": {"j": {"passed": True, "score": 0.8}}}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], r"r.jsonl:1: this is no labelled answer or pair"),
        (
            [PAIR, {**PAIR, "label": "A"}],
            r"r.jsonl:2: this is no labelled answer or pair: Invalid enum value 'A' - at '\$.label'",
        ),
        ([{**PAIR, "decisions": ["A>B"]}], r"r.jsonl:1: .*decisions"),
        ([{**PAIR, "response_b": None}], r"r.jsonl:1: .*response_b"),
        ([ROW, {**ROW, "score": 3}], r"r.jsonl:2: score lies between 0 and 1, not 3"),
        ([{**ROW, "verdicts": {"j": {"score": 0.5}}}], r"r.jsonl:1: a verdict is"),
        (
            [{**ROW, "verdicts": {"j": {"passed": True, "score": 7}}}],
            r"r.jsonl:1: a verdict's score lies between 0 and 1",
        ),
        ([ROW, PAIR], r"r.jsonl:2: pairs and single answers are mixed"),
        ([{"output": "o"}], r"r.jsonl:1: .*missing required field 'task_id'"),
    ],
)
def test_bad_records_are_refused_with_their_line(tmp_path, lines, said):
    with pytest.raises(RecordsError, match=said):
        read_labelled(written(tmp_path, *lines), judge="j")


def test_what_is_left_out_is_counted(tmp_path):
    files = written(
        tmp_path,
        ROW,
        {**ROW, "task_id": "u", "score": None},
        {**ROW, "task_id": "v", "label_source": "judge"},
        {**ROW, "task_id": "w", "verdicts": {}},
        {**ROW, "task_id": "x", "output": None, "failure": "timeout: slow"},
        {**ROW, "task_id": "y", "step": "letter~"},
    )
    found = read_labelled(files, judge="j")
    assert [row.task_id for row in found.scored] == ["t"]
    assert dict(found.left_out) == {
        "without a label": 1,
        "labelled by a judge, not by people": 1,
        "not judged by 'j'": 1,
        "without an answer": 1,
    }


def test_the_same_answer_to_another_question_is_another_label(tmp_path):
    """Two steps of one run have one task id, and may both answer yes."""
    file = tmp_path / "r.jsonl"
    row = {"task_id": "t", "worker": "w", "output": "yes", "score": 1}
    file.write_text("".join(json.dumps({**row, "prompt": prompt}) + "\n" for prompt in ("Paid?", "Kind?", "Kind?")))
    assert len(read_labelled([file]).scored) == 2


def test_for_a_live_judge_each_pair_counts_once(tmp_path):
    found = read_labelled(written(tmp_path, PAIR, {**PAIR, "judge": "k"}))
    assert len(found.pairs) == 1
    assert found.pairs[0].decisions == ("A>B", None)
    assert set(found.judges) == {"j", "k"}
