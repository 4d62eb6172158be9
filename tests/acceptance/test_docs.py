"""What the documentation says is tried: every block of README.md and docs/ runs, offline, in a scratch folder of its page.

A block's first line says what becomes of it:

    ```console            each line after `$ ` is run by bash; what stands below it is what it prints (`…`: anything)
    ```console fails      the same, and the last command ends with a status other than 0
    ```python             is run; a ```text output block after it is what it prints
    ```LANGUAGE file=NAME is written to a file first, for the blocks that follow
    ```LANGUAGE no-run    is left alone: it needs a key, a network, or a person
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import yaml

import orchestrion
from orchestrion import domain
from orchestrion.domain import Outcome
from orchestrion.engine.saved import read_policy, write_policy
from orchestrion.evidence.records import read_outcomes
from orchestrion.policy import protocol
from orchestrion.settings import BudgetSettings, ModelSettings, PriceSettings, Settings, read_settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples/README.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES = sorted(set((ROOT / "examples").glob("*.py")) - {ROOT / "examples/stage.py"})
LANGUAGES = {"console", "python", "yaml", "json", "text"}
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
TIMES = re.compile(r"(\s)\s*\d+(\.\d+)? (s|min)\b")
TIMEOUT_S = 120


class Block(NamedTuple):
    """One fenced block: where it begins, its language, the words after that, and its text."""

    line: int
    language: str
    words: list[str]
    body: str

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        found.append(Block(text[: match.start()].count("\n") + 1, language, words, match["body"]))
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(block: Block) -> list[tuple[str, str]]:
    """Each command of a console block with the output that stands below it."""
    assert block.body.startswith("$ "), f"line {block.line}: a console block begins with a command"
    found = []
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command += f"\n{more}"
        found.append((command, expected))
    return found


def prints(expected: str, said: str) -> bool:
    """Whether what was said is what stands on the page: `…` is anything, and times are as they are."""
    want, got = (
        TIMES.sub(r"\1_", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)).strip() for text in (expected, said)
    )
    return re.fullmatch(".*?".join(map(re.escape, want.split("…"))), got, re.DOTALL) is not None


class Scratch:
    """A folder in which a page's blocks run one after the other, with the installed command on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cwd = folder
        secret = ("ORCHESTRION_", "OPENAI_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(secret)}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            "NO_COLOR": "1",
        }

    def bash(self, command: str) -> tuple[int, str]:
        """Status and output of a command; `cd` lasts."""
        place = self.folder / ".cwd"
        script = f"{command}\nstatus=$?\npwd > '{place}'\nexit $status"
        done = self.run(["bash", "-c", script])
        if place.exists():
            self.cwd = Path(place.read_text(encoding="utf-8").strip())
        return done

    def python(self, file: str) -> tuple[int, str]:
        return self.run([sys.executable, file])

    def write(self, name: str, text: str) -> None:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, command: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            command,
            check=False,
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )
        return done.returncode, done.stdout


def try_page(page: Path, scratch: Scratch) -> None:
    said = ""
    for block in blocks(page):
        at = f"{name_of(page)}:{block.line}"
        if "no-run" in block.words:
            continue
        if block.file:
            scratch.write(block.file, block.body)
        if block.language == "python":
            if not block.file:
                scratch.write("block.py", block.body)
            status, said = scratch.python(block.file or "block.py")
            assert status == 0, f"{at}: {said}"
        elif block.language == "text" and "output" in block.words:
            assert prints(block.body, said), f"{at}: the block before it prints\n{said}"
        elif block.language == "console":
            asked = commands(block)
            for i, (command, expected) in enumerate(asked):
                status, said = scratch.bash(command)
                fails = "fails" in block.words and i == len(asked) - 1
                assert (status != 0) == fails, f"{at}: $ {command}\nended with {status}:\n{said}"
                assert not expected or prints(expected, said), (
                    f"{at}: $ {command}\nprints\n{said}\ninstead of\n{expected}"
                )


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_every_block_of_a_page_runs(page, tmp_path):
    try_page(page, Scratch(tmp_path))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_say_what_they_are(page):
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(blocks(page)), "an indented or unclosed block"
    for block in blocks(page):
        assert block.language in LANGUAGES, f"line {block.line}: {block.language!r}"
        for word in block.words:
            assert word in {"no-run", "fails", "output"} or word.startswith("file="), f"line {block.line}: {word!r}"


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    elsewhere = {
        DOCS / "README.md",
        DOCS / "design/dependencies.md",
        DOCS / "design/journal.md",
        DOCS / "design/ledger.md",
        DOCS / "design/ledger-postgres.md",
        DOCS / "design/reviews.md",
        DOCS / "design/tuning.md",
    }  # the design's README has them
    assert [page for page in set(PAGES) - elsewhere if f"({os.path.relpath(page, DOCS)})" not in index] == [
        ROOT / "README.md"
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"there is no {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{file or 'this page'} has no heading #{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_path_of_one_machine(page):
    assert re.findall(r"(?<![\w.])/(?:work|home|Users|root|tmp|opt)/", page.read_text(encoding="utf-8")) == []


# Examples


EXPECTED = {
    "approve_refund.py": ["waiting", "paying 42.50 for A-1302", "approved by ana", "asked in all: cheap, pay"],
    "code_tests_audit.py": [
        "replaces the folder",
        "round 2: the tests pass; the auditor says: nothing",
        "1 version(s) refused",
    ],
    "contract_clauses.py": ["| birch-5 | payment | Southgate | 14 | cheap ✗, cheap ✗, frontier |"],
    "research_note.py": ["round 2 of 3: the critic has nothing", "asked: writer, writer, critic, writer, critic"],
    "spend_cap.py": ["1. waiting: step 'polish'", "3. done: You are right", "asked: cheap (", ", frontier ("],
    "support_triage.py": ["t3  delivery   frontier: delivery", "asked: cheap 18×, frontier 3×"],
}
LEFT = {"contract_clauses.py": ["clauses.csv"]}
"""Files that an example writes; others write none."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(example, tmp_path):
    status, said = Scratch(tmp_path).python(str(example))
    assert status == 0, said
    for line in EXPECTED[example.name]:
        assert line in said
    assert re.search(r"^cost: \$0\.\d+ \(simulated\)$", said, re.MULTILINE)
    assert said.count("   paying ") <= 1  # a side effect happens once
    assert [file.name for file in tmp_path.iterdir()] == LEFT.get(example.name, [])
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_go_live_by_one_word(example, tmp_path):
    scratch = Scratch(tmp_path)
    scratch.write("orchestrion.yaml", (ROOT / "examples/orchestrion.yaml").read_text(encoding="utf-8"))
    status, said = scratch.run([sys.executable, str(example), "--live"])
    assert (status, "export OPENAI_API_KEY=…" in said, "Traceback" in said) == (1, True, False), said
    scratch.write("orchestrion.yaml", "models:\n  cheap: {model: openai-chat:x, price: {input: 0}}\n")
    status, said = scratch.run([sys.executable, str(example), "--live"])
    assert (status, "'models.cheap.price.output' is missing" in said) == (1, True), said


def test_every_example_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    index = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert [example.name for example in EXAMPLES if f"(examples/{example.name})" not in readme] == []
    assert [example.name for example in EXAMPLES if f"\n| [{example.name}]({example.name}) |" not in index] == []


# References are whole


def rows(page: Path) -> list[str]:
    """What stands in backquotes at the beginning of a table's rows."""
    return re.findall(r"^\| `([^`]+)`", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_outcomes_page_lists_every_field_in_order():
    assert rows(DOCS / "reference/outcomes.md") == list(Outcome.__struct_fields__)


def test_an_outcome_of_the_page_can_be_read(tmp_path):
    [block] = [block for block in blocks(DOCS / "reference/outcomes.md") if block.language == "json"]
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(json.loads(block.body)) + "\n", encoding="utf-8")
    [outcome] = read_outcomes([file])
    assert set(json.loads(block.body)) == set(Outcome.__struct_fields__)
    assert msgspec.to_builtins(outcome) == json.loads(block.body)


def test_settings_page_has_every_key():
    keys = set(rows(DOCS / "how-to/settings.md"))
    for section in (Settings, ModelSettings, PriceSettings, BudgetSettings):
        named = {field.alias or name for name, field in section.model_fields.items()}
        assert keys >= named - {"file"}, section.__name__


@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page in PAGES for block in blocks(page) if block.language == "yaml"],
    ids=lambda one: name_of(one) if isinstance(one, Path) else str(one.line),
)
def test_settings_in_the_docs_can_be_read(page, block, tmp_path):
    if "fails" in block.words:
        return  # a console block below it shows what is said of it
    file = tmp_path / "orchestrion.yaml"
    file.write_text(block.body, encoding="utf-8")
    assert yaml.safe_load(block.body)
    assert read_settings(file)


def policies_of_the_page() -> list[tuple[int, str]]:
    page = DOCS / "reference/policies.md"
    return [(one.line, one.body) for one in blocks(page) if one.language == "json" and "fails" not in one.words]


@pytest.mark.parametrize(
    ("line", "text"), policies_of_the_page(), ids=lambda one: str(one) if isinstance(one, int) else ""
)
def test_policies_of_the_page_can_be_read_and_written(line, text, tmp_path):
    file, again = tmp_path / "policy.json", tmp_path / "again.json"
    file.write_text(text, encoding="utf-8")
    saved = read_policy(file)
    write_policy(again, saved)
    found = read_policy(again)
    assert (found.policy, found.checks) == (saved.policy, saved.checks)


def test_policies_page_has_every_kind_and_rule():
    text = (DOCS / "reference/policies.md").read_text(encoding="utf-8")
    used = set(re.findall(r'"policy": "(\w+)"', text))
    assert used >= set(protocol._KINDS)
    assert set(re.findall(r'"check": "(\w+)"', text)) == {"matches", "length", "judge"}
    assert set(re.findall(r"^## `(\w+)`", text, re.MULTILINE)) == set(protocol._KINDS)


@pytest.mark.parametrize("name", ["cli", "api"])
def test_generated_pages_are_current(name):
    page = (DOCS / f"reference/{name}.md").read_text(encoding="utf-8")
    assert page.split() == maker(name).text().split(), f"run `python docs/reference/make_{name}.py`"


def test_api_page_has_every_public_name_once():
    named = [name for names in maker("api").PARTS.values() for name in names]
    assert sorted(named) == sorted(orchestrion.__all__)


def maker(name):
    """The script that writes a page of the reference."""
    spec = importlib.util.spec_from_file_location(f"make_{name}", DOCS / f"reference/make_{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_glossary_has_every_fact():
    """The public names that are nouns, and everything in domain that is a class."""
    terms = set(re.findall(r"^\*\*([^*]+)\*\*", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE))
    nouns = {name for name in orchestrion.__all__ if name[0].isupper()} - {
        "Orchestrion",
        "OrchestrionError",
        "StepFailed",
    }
    facts = {
        name for name, value in vars(domain).items() if isinstance(value, type) and value.__module__ == domain.__name__
    }
    assert nouns | facts <= terms
