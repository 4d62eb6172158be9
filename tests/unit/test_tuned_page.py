"""The page of a tuning: what it says, what it must not hide, what it does not let in."""

import re
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from orchestrion.policy.certificate import Target
from orchestrion.report import promised
from orchestrion.report.tried import MOST_DOTS, tried
from orchestrion.report.tuned import render
from orchestrion.report.words import NBSP
from orchestrion.tuning.facts import Interval, Point, TagPromise, WorkerFacts
from tests.unit import tuned_sample
from tests.unit.tuned_page_sample import (
    CHEAPER,
    FRONTIER,
    NOT_CERTIFIED,
    REFUSED,
    TAGGED,
    TUNED,
    WORKERS,
    hostile,
    points,
    promise,
)

NAN = float("nan")


class Page(HTMLParser):
    """A page's texts by element, its elements and attributes, and how often each name of a drawing stands in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.elements and self.elements[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace(NBSP, " ").split())


def text(tuned) -> str:
    return Page(render(tuned)).text


def test_a_manager_reads_what_is_promised_how_sure_and_what_it_saves():
    said = promised.summary(TUNED).replace(NBSP, " ")
    assert "costs $3.48 for 1,000 tasks, where gpt-5.1 alone costs $13.28: $9.80, or 73.8 %, less" in said
    assert "the mean quality is at least 95 % of gpt-5.1’s" in said
    assert "tested on 300 tasks" in said
    assert "98.1 % of gpt-5.1’s (95 % interval: 95.3 % to 100.4 %)" in said
    assert "90 %, that is, of 10 such promises, at most one is broken on average" in said
    assert "What is not promised" in said
    assert "void as soon as the model or the price of gpt-5-nano, qwen3-8b and gpt-5.1 changes" in said


@pytest.mark.parametrize(
    ("confidence", "odds"),
    [
        (0.9, "of 10 such promises, at most one"),
        (0.95, "of 20 such"),
        (0.8, "of 5 such"),
        (0.85, "at most 15 % of such"),
    ],
)
def test_a_confidence_is_said_as_odds(confidence, odds):
    found = replace(TUNED, promises=(promise(target=Target(confidence=confidence)),))
    assert odds in promised.summary(found).replace(NBSP, " ")


@pytest.mark.parametrize("given", [(TUNED), (tuned_sample.TUNED), (TAGGED)], ids=["dice", "hand", "tagged"])
def test_every_figure_stands_there_as_text(given):
    said = text(given)
    assert said.startswith("Certified: 95 % of")
    for one in given.promises:
        assert promised.title(one.target).replace(NBSP, " ") in said
        assert promised.money(one.cost) in said
        assert promised.share(one.quality_ratio.value).replace(NBSP, " ") in said
        assert promised.between(one.cost_ratio).replace(NBSP, " ") in said
        assert one.words in said
    for worker in given.workers:
        assert f"{worker.name}" in said
        assert promised.thousand(worker.cost) in said
    for one in (*given.notes, *given.advice):
        assert one in said
    assert f"Seed {given.seed}" in said
    assert given.promises[0].certificate.method in said


def test_promises_stand_side_by_side_and_a_mix_says_that_it_is_one():
    said = text(TUNED)
    assert "mean ≥ 95 % mean ≥ 90 % ≥ 95 % on 90 % of tasks Certified certified certified not certified" in said
    assert "26.2 % 22.1 % to 31.0 % 11.8 % 11.2 % to 12.5 % 100 %" in said
    assert "77.9 % 93.1 % –" in said
    assert said.count("tosses a coin") == 1
    assert "on 90 % of the tasks" in said
    assert "at most 22 would have been few enough" in said


def test_not_certified_cannot_be_overlooked():
    page = render(NOT_CERTIFIED)
    said = Page(page).text
    assert "<title>Not certified: nothing cheaper than gpt-5.1</title>" in page
    assert '<h1 class="alert">Not certified' in page
    assert 'class="summary refused"' in page
    assert "40 labels are too few" in said
    assert "About 180 labelled tasks would probably do; there are 40" in said
    assert "nothing is saved" in said
    assert "What was asked for is not certified: the policy is the frontier" in said
    assert "◆" not in said
    assert "Certified." not in said


def test_where_no_number_of_labels_would_do_it_says_so():
    said = text(replace(NOT_CERTIFIED, promises=(replace(REFUSED, labels_needed=None),)))
    assert "another worker is needed" in said
    assert "needs another worker" in said


def test_a_weaker_promise_is_offered_where_the_one_asked_for_fails():
    found = replace(TUNED, promises=(REFUSED, CHEAPER))
    assert "Another promise is certified at 11.8 % of gpt-5.1’s cost" in text(found)
    assert tried(found).chosen is None
    assert [name for name, _ in tried(found).others] == [f"mean ≥{NBSP}90{NBSP}%"]


def test_tags_are_listed_with_what_failed_first_said():
    said = text(TAGGED)
    assert "Not certified for 1 of 3" in said
    assert "contract not certified 100 % 100 % 64" in said
    many = {
        f"t{i}": TagPromise(certified=True, tasks=9, quality_ratio=1.0, cost_ratio=0.5, words="Ask a.")
        for i in range(90)
    }
    assert "30 more tags are not listed" in text(replace(TAGGED, promises=(promise(by_tag=many),)))
    assert "By tag" not in text(TUNED)


def test_very_many_policies_are_thinned_to_a_stated_sample_that_keeps_the_hull():
    found = replace(TUNED, points=points(20_000))
    shown = tried(found)
    assert (len(shown.dots), shown.tried, len(shown.hull)) == (MOST_DOTS, 20_003, 7)
    assert tried(found) == shown
    page = render(found)
    assert len(page.encode()) < 150_000
    assert (
        "20,003 policies were tried; besides those on the solid line, 1,500 of them, picked at random, are drawn"
        in Page(page).text
    )
    assert "picked at random, are drawn" not in text(TUNED)
    assert "9,999 policies were tried; besides" in text(replace(TUNED, tried=9_999))


def test_texts_of_users_stay_texts():
    page = render(hostile())
    tags = Page(page)
    assert len(page.encode()) < 300_000
    assert "script" not in tags.elements
    assert "img" not in tags.elements
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert not [value for name, value in tags.attributes if name in ("src", "href") and value != "data:,"]
    assert not re.search("[\x00-\x08\u202a-\u202e\ud800-\udfff]", page)
    assert "style" not in {name for name, _ in tags.attributes}  # the page's own policy forbids them


def test_each_drawing_is_there_for_a_desk_and_for_a_phone_with_its_words():
    page = render(TUNED)
    assert page.count("<svg") == 2
    [wide, narrow] = re.findall(r"<desc[^>]*>(.*?)</desc>", page)
    assert wide == narrow
    assert "chosen: 89.4" in wide
    assert "hindsight oracle" in wide
    assert "logarithmic" in wide


def test_where_costs_are_alike_or_nothing_the_axis_is_not_logarithmic():
    alike = tuple(replace(one, cost=0.002 + i / 1000) for i, one in enumerate(WORKERS))
    free = (replace(alike[0], cost=0.0), *alike[1:])
    for workers in (alike, free):
        found = replace(
            TUNED, workers=workers, frontier=workers[-1], oracle=replace(workers[0], quality=1.0), points=()
        )
        found = replace(found, promises=(replace(REFUSED, target=Target()),))
        page = render(found)
        assert "logarithmic" not in page
        assert ">$0</text>" in page
        assert "No policy was tried" in page


def test_figures_that_are_not_known_are_said_to_be_not_known_and_not_drawn():
    unknown = Interval(NAN, NAN, NAN)
    odd = promise(
        quality_ratio=unknown, cost_ratio=unknown, cost=NAN, captured=None, realised=(NAN, NAN), certificate=None
    )
    found = replace(
        TUNED, promises=(odd,), points=(*points(5), Point(name="odd", kind="policy", quality=NAN, cost=1.0))
    )
    page = render(found)
    assert "not known" in page
    assert not re.search(r"\bnan\b|\binf\b", page)
    assert tried(found).tried == 8
    nobody = WorkerFacts(name="f", quality=NAN, cost=NAN, tasks=0)
    assert "<svg" not in render(replace(found, frontier=nobody, oracle=nobody, points=()))


def test_one_worker_one_point_is_drawn():
    found = replace(
        TUNED,
        promises=(replace(REFUSED, target=Target()),),
        workers=(FRONTIER,),
        points=(),
        oracle=FRONTIER,
        notes=(),
        advice=(),
    )
    assert render(found).count("<svg") == 2


def test_the_best_at_a_cost_is_said_as_that_where_it_is_not_certified():
    found = replace(NOT_CERTIFIED, promises=(replace(NOT_CERTIFIED.promises[0], target=Target(quality=0.0)),))
    said = text(found)
    assert "best at this cost" in said
    assert "at least 0 %" not in said


@pytest.mark.parametrize(
    ("value", "shown"), [(0.95, "95 %"), (0.9, "90 %"), (0.875, "87.5 %"), (0.9999, "99.99 %"), (1.0, "100 %")]
)
def test_a_target_has_as_many_decimals_as_it_was_given(value, shown):
    assert promised.whole(value).replace(NBSP, " ") == shown


def test_simulated_dollars_are_said_to_be_simulated():
    assert "so is every dollar on this page" in render(TUNED, simulated=True)
    assert "simulated" not in render(TUNED)
