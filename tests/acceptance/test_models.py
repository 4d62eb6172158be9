"""orchestrion models, as somebody at a terminal meets it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.acceptance.stub_providers import Bill, StubAnthropic

PRICE = {"input": 3, "output": 15}


def command(folder, *words):
    """An orchestrion command in a folder."""
    asked = [sys.executable, "-m", "orchestrion", *words]
    return subprocess.run(asked, check=False, cwd=folder, capture_output=True, encoding="utf-8")


@pytest.fixture
def models(tmp_path):
    """``models({name: model}, "--check")``: status, stdout and stderr of the command in a folder with these settings."""

    def run(settings, *words, people=None, **environment):
        whole = {"models": settings} | ({"people": people} if people else {})
        (tmp_path / "orchestrion.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
        hidden = ("ORCHESTRION_", "OPENAI_", "ANTHROPIC_", "AWS_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        done = subprocess.run(
            [sys.executable, "-m", "orchestrion", "models", *words],
            check=False,
            cwd=tmp_path,
            env=kept | environment,
            capture_output=True,
            encoding="utf-8",
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    run.folder = tmp_path  # type: ignore[attr-defined]  # functions have room for it
    return run


def test_what_is_told_without_asking(models):
    given = {
        "claude": {"model": "anthropic:claude-haiku-4-5", "base_url": "http://127.0.0.1:9", "price": PRICE},
        "pro": {"model": "google:gemini-2.5-pro", "max_output": 2000, "base_url": "http://127.0.0.1:9"},
        "sim": {"model": "simulated", "price": PRICE, "concurrency": 3},
    }
    status, out, _ = models(given, people={"tax": {"wage": 60}})
    assert status == 0
    assert "$3.00 in, $15.00 out per million tokens (settings)" in out
    assert "problem    " in out
    assert "model 'pro' (google:gemini-2.5-pro) has no known price" in out
    assert "no: 127.0.0.1:9: " in out
    assert "answer 2,000" in out
    assert "3 calls at once" in out
    assert "$60.00 an hour" in out
    assert not (models.folder / "orchestrion.db").exists()
    status, out, _ = models(given, "sim", "--json")
    assert [one["name"] for one in json.loads(out)["models"]] == ["sim"]


def test_keys_and_list_prices(models):
    given = {"claude": {"model": "anthropic:claude-haiku-4-5"}}
    for environment, expected in [({}, False), ({"ANTHROPIC_API_KEY": "sk-1"}, True)]:
        _, out, _ = models(given, "--json", **environment)
        [row] = json.loads(out)["models"]
        assert (row["key"], row["key_set"]) == ("env:ANTHROPIC_API_KEY", expected)
        assert row["price"]["source"].startswith("Anthropic's list, genai-prices ")
        assert row["price"]["output"] > row["price"]["input"] > 0
        assert row["context_window"] > 100_000
        assert "sk-1" not in out


@pytest.mark.parametrize("words", [("--check", "--json"), ("claude", "broken", "--check", "--json")])
async def test_one_word_from_each(models, words):
    async with (
        StubAnthropic(lambda body: "ok", bill=Bill(fresh=20, output=4)) as stub,
        StubAnthropic(fates=["500"]) as bad,
    ):
        given = {
            "claude": {"model": "anthropic:claude-haiku-4-5", "base_url": stub.base_url, "price": PRICE},
            "broken": {"model": "anthropic:claude-haiku-4-5", "base_url": bad.base_url, "price": PRICE},
        }
        status, out, _ = await asyncio.to_thread(models, given, *words)
        assert status == 1
        claude, broken = json.loads(out)["models"]
        assert claude["reachable"] is broken["reachable"] is True
        assert claude["check"]["ok"] is True
        assert (claude["check"]["input_tokens"], claude["check"]["output_tokens"]) == (20, 4)
        assert claude["check"]["cost_usd"] == pytest.approx(20 * 3e-6 + 4 * 15e-6)
        assert "http_500" in broken["check"]["problem"]
        assert broken["check"]["cost_usd"] > 0  # it may have been billed: booked in full
        assert stub.requests[0][1]["max_tokens"] == 512
        status, out, _ = await asyncio.to_thread(models, given, "claude", "--check")
        assert status == 0
        assert "check      ok, " in out
        assert "20 tokens in, 4 out, $0.000120" in out
    listed = await asyncio.to_thread(command, models.folder, "runs", "list", "--json")
    runs = json.loads(listed.stdout)["runs"]
    assert {run["status"] for run in runs} == {"done", "failed"}
    assert len(runs) == 3


def test_a_model_that_cannot_be_checked(models):
    status, out, _ = models({"claude": {"model": "anthropic:claude-haiku-4-5"}}, "--check")
    assert status == 1
    assert "FAILED: model 'claude' takes its key from the environment variable ANTHROPIC_API_KEY" in out
    assert "nothing was asked" in out


def test_nobody_of_that_name_and_nobody_at_all(models):
    status, _, err = models({"cheap": {"model": "simulated", "price": PRICE}}, "chaep")
    assert (status, err) == (2, "orchestrion: nobody is called 'chaep' in the settings. Did you mean 'cheap'?\n")
    status, out, _ = models({})
    assert (status, out[:33]) == (0, "there are no models in the settin")


def test_a_model_that_cannot_be_used_hinders_nobody_else(models):
    """Looking at runs needs no model; a run that would ask it is refused before anything is asked."""
    given = {"good": {"model": "simulated", "price": PRICE}, "bad": {"model": "openai-chat:house-made"}}
    status, _, _ = models(given, "good", "--check")
    assert status == 0
    status, out, _ = models(given, "bad", "--check")
    assert (status, out.count("has no known price")) == (1, 1)  # said once
    assert "FAILED: see problem (nothing was asked)" in out
    flow = "from orchestrion import Step, cascade\necho = Step('echo', 'Say it.', policy=cascade('good', 'bad'))\n"
    (models.folder / "flow.py").write_text(flow)
    (models.folder / "tasks.jsonl").write_text('{"id": "t1", "input": "hello"}\n')

    done = command(models.folder, "run", "flow.py:echo", "tasks.jsonl")
    assert done.returncode == 2
    assert "model 'bad' (openai-chat:house-made) has no known price" in done.stderr
    listed = command(models.folder, "runs", "list", "--json")
    assert listed.returncode == 0
    assert len(json.loads(listed.stdout)["runs"]) == 1  # the check: nothing else was begun
