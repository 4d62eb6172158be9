"""The page in a real browser: quiet, self-contained, readable, at a desk's and a phone's width, light and dark."""

import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from orchestrion.report.tuned import render
from tests.unit.tuned_page_sample import NOT_CERTIFIED, TAGGED, TUNED, hostile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: on Debian, apt-get install chromium")

TUNINGS = {"tuned": TUNED, "not-certified": NOT_CERTIFIED, "tuned-tags": TAGGED, "tuned-hostile": hostile()}
PAGES = ("batch", "run", "replay", "hostile", *TUNINGS)
HOSTILE = "<script>document.title='had'</script><img src=x onerror=alert(1)>"

UNREADABLE = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const linear = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = colour => { const [r, g, b] = rgb(colour).map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const below = e => {
    for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (c !== 'rgba(0, 0, 0, 0)') return c; }
    return 'white';
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('title, desc')) continue;
    const style = getComputedStyle(e), a = light(e.closest('svg') ? style.fill : style.color), b = light(below(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([e.textContent.slice(0, 40), ratio]);
  }
  return found;
}"""
"""Texts whose contrast is below 4.5, the least of WCAG's level AA."""


def orchestrion(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "orchestrion", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project's batch, one of its runs, a replay of its records, a batch whose texts mean harm; and what tunings found."""
    folder = tmp_path_factory.mktemp("reports")
    orchestrion(folder, "init", ".")
    orchestrion(folder, "run", "workflow.py:support", "tasks.jsonl", "-q")
    orchestrion(folder, "report", "--out", "batch.html")
    orchestrion(folder, "report", "--run", "support:tasks/ticket-01", "--out", "run.html")
    orchestrion(folder, "outcomes", "export", "o.jsonl")
    (folder / "p.json").write_text('{"format": "orchestrion/policy/1", "policy": "cheap"}')
    rows = [
        {"task_id": str(i), "worker": f"worker-{n}", "answer": "x", "score": float(i % 7 < n), "cost_usd": 0.001 * 3**n}
        for i in range(60)
        for n in range(1, 7)
    ]
    (folder / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "q.json").write_text('{"format": "orchestrion/policy/1", "policy": "worker-2"}')
    orchestrion(folder, "report", "r.jsonl", "--policy", "q.json", "--out", "replay.html")
    text = HOSTILE + " \u202eevil " + "w" * 2_000 + " 🎹 שלום"
    (folder / "hostile.py").write_text(HOSTILE_WORKFLOW)
    (folder / "hostile.jsonl").write_text(
        "\n".join(json.dumps({"id": f"{i} {text}", "input": text}) for i in range(30))
    )
    orchestrion(folder, "run", "hostile.py:told", "hostile.jsonl", "-q", "--batch", HOSTILE)
    orchestrion(folder, "report", "--out", "hostile.html")
    for name, tuned in TUNINGS.items():
        (folder / f"{name}.html").write_text(render(tuned), encoding="utf-8")
    return folder


HOSTILE_WORKFLOW = """
from orchestrion import Step, workflow

def refuses(answer: str) -> str:
    return answer

told = Step("told", policy="cheap", checks=[refuses])
"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def view(request, browser: Browser):
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_self_contained_and_readable(folder, view, name):
    said: list[str] = []
    asked: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("dialog", lambda dialog: said.append(dialog.message))
    view.on("request", lambda request: asked.append(request.url))
    file = (folder / f"{name}.html").as_uri()
    view.goto(file)
    assert said == []
    assert [url for url in asked if url not in (file, "data:,")] == []
    assert view.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert view.evaluate(UNREADABLE) == []
    assert view.evaluate("document.title") != "had"
    assert view.evaluate("getComputedStyle(document.body).fontVariantNumeric") == "tabular-nums"  # the style is let in


SMALLEST = """() => Math.min(...[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width).flatMap(
  s => [...s.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize) * s.getBoundingClientRect().width / s.viewBox.baseVal.width)))"""
"""The size in pixels of the smallest letters in the drawings that are seen."""

OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll('svg .label')].map(t => [t.textContent, t.getBoundingClientRect()]).filter(([, b]) => b.width);
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 4 && b.top < a.bottom - 4;
  return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) => meet(a, b)).map(([other]) => [one, other]));
}"""
"""Names in the drawings that stand on one another."""


@pytest.mark.parametrize("name", TUNINGS)
def test_a_tunings_drawing_can_be_read_on_a_phone_and_at_a_desk(folder, view, name):
    view.goto((folder / f"{name}.html").as_uri())
    assert (
        view.evaluate("[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width).length") == 1
    )
    assert view.evaluate(SMALLEST) >= 10.5
    assert view.evaluate(OVERLAPS) == []


def test_not_certified_is_seen_first_and_in_another_colour(folder, view):
    view.goto((folder / "not-certified.html").as_uri())
    heading = view.locator("h1")
    assert heading.inner_text().startswith("Not certified")
    alert, ink = (view.evaluate(f"getComputedStyle(document.querySelector('{what}')).color") for what in ("h1", "body"))
    assert alert != ink
    assert view.locator(".refused").bounding_box()["y"] < 844


@pytest.mark.parametrize("name", PAGES)
def test_headings_are_in_order_and_drawings_have_names(folder, view, name):
    view.goto((folder / f"{name}.html").as_uri())
    levels = view.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    unnamed = "[...document.querySelectorAll('svg')].filter(s => !s.querySelector('title')?.textContent || !s.querySelector('desc')?.textContent).length"
    assert view.evaluate(unnamed) == 0
    ids = view.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_dark_is_dark(folder, view):
    view.goto((folder / "batch.html").as_uri())
    dark = view.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper))) < 60) == dark


def test_wide_tables_scroll_within_themselves_and_by_keyboard(folder, view):
    view.goto((folder / "batch.html").as_uri())
    regions = view.evaluate(
        "[...document.querySelectorAll('.scroll')].map(r => [r.tabIndex, getComputedStyle(r).overflowX, !!r.getAttribute('aria-label')])"
    )
    assert regions
    assert {tuple(region) for region in regions} == {(0, "auto", True)}


@pytest.mark.parametrize("name", ["batch", "tuned"])
def test_it_prints_on_paper(folder, browser, name):
    page = browser.new_page(color_scheme="dark")
    page.goto((folder / f"{name}.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    page.close()
