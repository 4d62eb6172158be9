"""Facts of a report: intervals, sums, the frontier's estimate, words, and the page's escaping. No database."""

import json
import re
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from orchestrion import agreement, cascade
from orchestrion.domain import Outcome, Price, Usage, Verdict
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.policy.combinators import as_policy
from orchestrion.report import words
from orchestrion.report.facts import Case, Ended, Waiting, plain, total
from orchestrion.report.frontier import FrontierAlone
from orchestrion.report.intervals import difference, labels_for, share
from orchestrion.report.page import LISTED, render
from orchestrion.report.plots import clip
from orchestrion.report.replayed import Tried, comparable, report_replay
from orchestrion.report.tally import Counted, Tally


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(right, n, low, high):
    """Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3."""
    found = share([1.0] * right + [0.0] * (n - right))
    assert found
    assert (round(found.low, 4), round(found.high, 4), found.n) == (low, high, n)
    assert found.mean == right / n


def test_without_labels_there_is_no_interval_and_with_all_right_it_does_not_say_certain():
    assert share([]) is None
    certain = share([1.0] * 10)
    assert certain
    assert certain.low < 0.75
    assert certain.high == 1.0


def test_a_difference_needs_enough_pairs_and_has_its_sign():
    assert difference([1.0] * 29, [0.0] * 29) is None
    worse, same = (difference([0.0, 1.0] * 50, theirs * 50) for theirs in ([1.0, 1.0], [1.0, 0.0]))
    assert worse
    assert same
    assert (worse.mean, worse.n) == (-0.5, 100)
    assert worse.low == pytest.approx(-0.5 - 1.96 * 0.50252 / 10, abs=1e-4)
    assert "50.0 points below" in words.against(worse)
    assert "cannot tell the two apart" in words.against(same)


def test_more_labels_are_asked_for_where_the_share_is_less_certain():
    assert labels_for(0.05, mean=0.5) == 385
    assert labels_for(0.05, mean=0.9) == labels_for(0.05, mean=1.0) == 139


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.9999, "over 99 %"), (0.0001, "under 0.1 %"), (0.074, "7.4 %"), (0.93, "93 %")],
)
def test_percent_never_rounds_a_fault_away(value, shown):
    assert words.percent(value).replace(words.NBSP, " ") == shown


def call(**given) -> Counted:
    fields = {
        "run": "r",
        "step": "s",
        "worker": "w",
        "judging": False,
        "answered": True,
        "accepted": 1,
        "verdicts": (),
        "tokens": (8, 2),
        "posted": ("post", 7),
        "held": 9,
    }
    return Counted(**{**fields, **given})


def test_every_call_ends_in_one_way_and_money_is_summed_to_the_nano():
    tally = Tally()
    no = Verdict("even", False, 0.0, "odd")
    for one in (
        call(verdicts=(Verdict("even", True, 1.0),)),
        call(accepted=0, verdicts=(no,)),
        call(accepted=0),
        call(answered=False, accepted=0, posted=("unknown", 1_000_000_007)),
        call(answered=None, accepted=0, posted=("unknown", 11)),
        call(answered=None, accepted=0, posted=("void", 0)),
        call(answered=None, accepted=0, posted=None),
        call(judging=True, worker="judge", posted=("post", 3)),
        call(accepted=2, verdicts=(no,)),
    ):
        tally.add(one)
    cells = tally.cells(simulated=["judge"], quality={})
    sums = total(cell.figures for cell in cells)
    assert sums.cost == 7 * 4 + 1_000_000_007 + 11 + 3
    assert (sums.unknown, sums.held) == (1_000_000_018, 9)
    assert (sums.accepted, sums.refused, sums.unused, sums.failed, sums.lost, sums.unsent, sums.open) == (
        3,
        1,
        1,
        1,
        1,
        1,
        1,
    )
    assert sums.calls == 9
    assert [(cell.worker, cell.judging, cell.simulated) for cell in cells] == [
        ("w", False, False),
        ("judge", True, True),
    ]
    assert (tally.accepted, tally.unseen, tally.despite, tally.constrained) == (2, 0, 1, 1)
    [refused] = tally.refusals()
    assert (refused.check, refused.looked, refused.refused, refused.example) == ("even", 3, 2, "r")


PRICES = {"cheap": Price(1_000_000, 1_000_000), "frontier": Price(10_000_000, 40_000_000)}


def test_the_frontier_alone_is_its_own_answer_or_the_others_tokens_at_its_price():
    alone = FrontierAlone(PRICES, frontier=None)
    alone.add(1, "s", "cheap", Usage(100, 10), cost=110, plain=True)
    alone.add(2, "s", "cheap", Usage(100, 10), cost=110, plain=True)
    alone.add(2, "s", "frontier", Usage(100, 20), cost=1_234, plain=True)
    alone.add(3, "t", "cheap", Usage(1, 1), cost=2, plain=True)
    alone.add(4, "code", "compute", Usage(), cost=0, plain=True)
    found = alone.sum()
    assert (found.worker, found.estimated, found.left_out) == ("frontier", True, 0)
    assert found.by_step == {"s": 100 * 10 + 10 * 40 + 1_234, "t": 50}
    assert found.cost == sum(found.by_step.values())


def test_a_correction_of_the_frontiers_is_no_plain_answer():
    alone = FrontierAlone(PRICES, frontier=None)
    alone.add(1, "s", "cheap", Usage(100, 10), cost=110, plain=True)
    alone.add(1, "s", "frontier", Usage(900, 900), cost=99_999, plain=False)
    assert alone.sum().cost == 1_400


def test_what_cannot_be_known_is_left_out_with_the_reason():
    lost = FrontierAlone(PRICES, frontier=None)
    lost.add(1, "s", "cheap", Usage(100, 10), cost=110, plain=True)
    lost.lost(2, "s")
    lost.add(1, "s", "frontier", Usage(100, 10), cost=5, plain=True)
    assert lost.sum().left_out == 1
    unpriced = FrontierAlone({}, frontier=None)
    unpriced.add(1, "s", "cheap", Usage(100, 10), cost=110, plain=True)
    assert unpriced.sum().cost is None
    assert "price" in unpriced.sum().how
    only = FrontierAlone(PRICES, frontier=None)
    only.add(1, "s", "frontier", Usage(100, 10), cost=110, plain=True)
    assert "only model" in only.sum().how


def records(n: int = 200, *, hostile: str = "", **more) -> list[Outcome]:
    """The frontier is right at nine tasks of ten, the cheap one at six; the odd ones of its answers a check refuses."""
    found = []
    for i in range(n):
        for worker, right, cost in (("cheap", i % 10 < 6, 0.001), ("frontier", i % 10 < 9, 0.01)):
            verdicts = {"even" + hostile: {"passed": i % 10 < 6, "score": 1.0}} if worker == "cheap" else None
            found.append(
                Outcome(
                    task_id=f"t{i}",
                    worker=worker + hostile,
                    output="x",
                    answer="x",
                    score=float(right),
                    input_tokens=10,
                    output_tokens=1,
                    cost_usd=cost,
                    verdicts=verdicts,
                    **more,
                )
            )
    return found


async def replayed(policy, found, **more):
    saved = SavedPolicy(as_policy(policy), name="policies/p.json")
    done = await replay(found, saved)
    workers = dict.fromkeys(one.worker for one in found)
    return report_replay([Tried(saved.name, done)], records=["r.jsonl"], workers=workers, step=None, **more)


async def test_a_replay_is_reported_beside_every_worker_alone():
    report = await replayed(cascade("cheap", "frontier"), records())
    policy, cheap, frontier = report.ways
    assert (policy.kind, cheap.name, frontier.name) == ("policy", "cheap", "frontier")
    assert policy.cost == report.figures.cost == (200 * 1 + 80 * 10) * 1_000_000
    assert (policy.quality.mean, frontier.quality.mean, cheap.quality.mean) == (0.9, 0.9, 0.6)
    assert policy.against.mean == 0
    assert report.alone.cost == frontier.cost == 2_000_000_000
    assert "50 % cheaper".replace(" ", words.NBSP, 1) in report.summary
    assert report.ended == Ended(answered=200)
    page = render(report)
    assert "Quality against cost" in page
    assert "nothing was spent" in page


async def test_a_dear_policy_is_advised_against():
    report = await replayed(agreement("cheap", "frontier", accept=0.5), records())
    assert "Do not use p here" in [one.what for one in report.advice]


async def test_without_scores_no_quality_is_made_up():
    blank = [Outcome(task_id=f"t{i}", worker=w, answer="x", cost_usd=0.1) for i in range(50) for w in ("a", "b")]
    report = await replayed("a", blank)
    assert [way.quality for way in report.ways] == [None] * 3
    page = render(report)
    assert "not known" in page
    assert "Quality against cost" not in page


def test_tasks_that_lack_a_worker_are_left_out_unless_most_do():
    found = records(10)
    assert comparable(found[1:]) == (found[2:], 1)
    cascade_like = [one for i, one in enumerate(found) if one.worker == "cheap" or i < 4]
    assert comparable(cascade_like) == (cascade_like, 0)
    assert comparable(found, step="none") == (found, 0)


class Tags(HTMLParser):
    """Every element of a page, and every attribute by its element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [name for name, _ in attrs]


HOSTILE = "<script>alert(1)</script>\" onload='x' </svg>"
RTL = "\u202eevil \u05e9\u05dc\u05d5\u05dd \x00 \ud83d 🎹🎹"
LONG = "w" * 3_000


async def test_texts_of_users_and_models_stay_texts():
    report = await replayed(
        cascade("cheap" + HOSTILE + RTL, "frontier" + HOSTILE + RTL), records(hostile=HOSTILE + RTL)
    )
    case = Case(ended="flagged", run=HOSTILE, task=HOSTILE + RTL, reason=LONG)
    wait = Waiting(kind="review", run=HOSTILE, task=LONG, wants=HOSTILE + RTL, since=0.0, command=HOSTILE)
    report = replace(
        report,
        kind="batch",
        title=HOSTILE + RTL,
        workflows=(HOSTILE,),
        cases=(case,) * (LISTED + 5),
        waiting=(wait,),
        source=LONG,
        began=0.0,
        until=1.0,
    )
    page = render(report)
    tags = Tags(page)
    assert "script" not in tags.elements
    assert not [name for name in tags.attributes if name.startswith("on") or name in ("style", "src")]
    assert "&lt;script&gt;" in page
    assert not re.search("[\x00\u202e\ud83d]", page)
    assert "שלום" in page
    assert "🎹" in page
    assert LONG not in page
    assert "5 more" in page
    page.encode()


def test_the_page_needs_nothing_from_elsewhere_and_its_policy_says_so(rendered):
    tags = Tags(rendered)
    assert not {"script", "iframe", "img", "object", "base", "form"} & set(tags.elements)
    assert "default-src 'none'" in rendered
    assert "unsafe-inline" not in rendered
    assert not re.search(r"https?://|url\(|@import", rendered)


@pytest.fixture
async def rendered() -> str:
    return render(await replayed(cascade("cheap", "frontier"), records()))


async def test_the_facts_are_plain_json_with_money_in_dollars():
    report = await replayed("cheap", records())
    data = json.loads(json.dumps(plain(report)))
    assert data["figures"]["cost_usd"] == 0.2
    assert data["alone"]["cost_usd"] == 2.0
    assert (data["ways"][0]["quality"]["mean"], data["ways"][0]["quality"]["n"]) == (0.6, 200)
    assert not re.search(r'"(cost|unknown|held)":', json.dumps(data))


def test_wide_letters_count_twice_where_a_label_is_cut():
    assert clip("piano", 5) == "piano"
    assert clip("pianos", 5) == "pian…"
    assert clip("鍵盤楽器", 5) == "鍵盤…"


async def test_the_frontier_is_not_chosen_by_how_many_labels_it_has():
    """A worker that few labels are about is no bad one: what is not known counts neither for nor against it."""
    rows = [
        Outcome(workload="w", step="s", task_id=str(i), worker=worker, answer="x", cost_usd=cost, score=score)
        for i in range(10)
        for worker, cost, score in (("cheap", 0.001, 0.5), ("best", 0.01, 1.0 if i < 2 else None))
    ]
    found = await replay(rows, SavedPolicy(as_policy("cheap"), (), "p"))
    assert found.frontier
    assert found.frontier.worker == "best"
