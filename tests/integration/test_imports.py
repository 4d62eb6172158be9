"""Other people's logs as outcome records, through the command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from orchestrion.domain import usd
from orchestrion.evidence.records import read_outcomes
from orchestrion.ledger.prices import listed
from orchestrion.store.zstd import zstd
from tests.acceptance.stub_server import read_records

SETTINGS = """
models:
  cheap: {model: simulated, price: {input: 1.0, output: 2.0, cache_read: 0.1}}
"""


def command(folder, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "orchestrion", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def imported(folder, kind, *files, out="records.jsonl", status=0, options=()):
    return command(folder, "outcomes", "import", kind, *files, "--out", out, *options, status=status)


def records(folder, name="records.jsonl"):
    return list(read_outcomes([folder / name]))


def lines(folder, name, *rows):
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return name


def asked(text, model="gpt-4o", **more):
    return {
        "model": model,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        **more,
    }


def answered(text, model="gpt-4o-2024-08-06", usage=(100, 20), **more):
    choices = [
        {"index": i, "message": {"role": "assistant", "content": one}}
        for i, one in enumerate([text] if isinstance(text, str) else text)
    ]
    tokens = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return {"object": "chat.completion", "id": "c", "model": model, "choices": choices, "usage": tokens, **more}


# OpenAI


def test_requests_and_responses(tmp_path):
    parts = [{"type": "text", "text": "Capital of "}, {"type": "text", "text": "Austria?"}]
    same = {
        "model": "mini",
        "temperature": 0,
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}],
    }
    lines(
        tmp_path,
        "log.jsonl",
        {"request": asked("Capital of Austria?"), "response": answered("Vienna"), "latency_ms": 1500},
        {"request": asked("Capital of Austria?"), "response": answered("Wien")},
        {"request": same, "response": json.dumps(answered("Graz", "mini")), "cost_usd": 0.5},
        {"request": same, "response": None, "error": {"message": "overloaded"}},
        {"request": asked("Another?", tools=[{"type": "function"}]), "response": answered(["a", "b"], usage=(10, 5))},
        {"request": asked("Another?"), "response": answered("c")},
    )
    (tmp_path / "orchestrion.yaml").write_text(SETTINGS)
    said = imported(
        tmp_path,
        "openai",
        "log.jsonl",
        options=["--worker", "mini=cheap", "--tags", "team=support", "--workload", "capitals"],
    )
    first, second, graz, failed, a, b, other = records(tmp_path)
    assert first.task_id == second.task_id == graz.task_id == failed.task_id
    assert len({first.task_id, a.task_id, other.task_id}) == 3  # with a tool it is another question
    assert (first.worker, first.sample, first.prompt, first.output) == ("gpt-4o", 0, "Capital of Austria?", "Vienna")
    assert (second.sample, first.latency_s, first.workload, first.tags) == (1, 1.5, "capitals", {"team": "support"})
    assert (first.input_tokens, first.output_tokens, first.tokens_estimated) == (100, 20, False)
    known = listed("gpt-4o", provider="openai", base_url=None)
    assert known
    price = known.price
    assert first.cost_usd == pytest.approx(100 * price.input / 1e15 + 20 * price.output / 1e15)
    assert (graz.worker, graz.cost_usd) == ("cheap", 0.00014)  # by the settings' price, not by what the log says
    assert (failed.failure, failed.output, failed.sample, failed.score) == ("error: overloaded", None, 1, None)
    assert [(one.sample, one.input_tokens, one.output_tokens, one.tokens_estimated) for one in (a, b)] == [
        (0, 10, 3, True),
        (1, 0, 2, True),
    ]
    assert {(one.selected_by, one.probability, one.score, one.label_source) for one in records(tmp_path)} == {
        ("import", None, None, None)
    }
    assert "7 rows of 3 tasks; answered by gpt-4o 3, cheap 1" in said
    assert "1 tasks that every worker answered, 1 failed calls" in said
    assert "outcomes label --records records.jsonl" in said


def test_a_batch_of_the_batch_api(tmp_path):
    def request(name, text, model="gpt-4o-mini"):
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked(text, model)}

    def result(name, body, status=200):
        return {
            "id": f"batch_req_{name}",
            "custom_id": name,
            "response": {"status_code": status, "request_id": "r", "body": body},
            "error": None,
        }

    lines(tmp_path, "in.jsonl", request("r1", "One?"), request("r2", "Two?"))
    lines(tmp_path, "out.jsonl", result("r2", answered("2")), result("r1", {"error": {"message": "too long"}}, 400))
    imported(tmp_path, "openai", "out.jsonl", "in.jsonl")
    two, one = records(tmp_path)
    assert (two.prompt, two.output, two.worker) == ("Two?", "2", "gpt-4o-mini")
    assert (one.prompt, one.failure) == ("One?", "http_400: too long")
    said = imported(tmp_path, "openai", "out.jsonl", status=2, out="none.jsonl")
    assert "out.jsonl:1: there is no request with the custom_id 'r2': name the batch's input file, too." in said
    lines(tmp_path, "other.jsonl", request("r1", "Something else?"))
    said = imported(tmp_path, "openai", "out.jsonl", "in.jsonl", "other.jsonl", status=2)
    assert "the custom_id 'r1' stands in two requests that differ" in said


def test_stored_completions_and_a_json_document(tmp_path):
    completion = {**answered("4"), "messages": [{"role": "user", "content": "2+2?"}], "metadata": {}}
    (tmp_path / "stored.json").write_text(json.dumps({"object": "list", "data": [completion, completion]}, indent=2))
    imported(tmp_path, "openai", "stored.json")
    assert [(one.prompt, one.output, one.sample) for one in records(tmp_path)] == [("2+2?", "4", 0), ("2+2?", "4", 1)]
    (tmp_path / "list.jsonl").write_text(json.dumps([completion], indent=2))  # a document under another name
    with zstd.open(tmp_path / "log.jsonl.zst", "wb") as file:
        file.write(json.dumps(completion).encode())
    imported(tmp_path, "openai", "list.jsonl", "log.jsonl.zst", out="two.jsonl.zst")
    assert len(records(tmp_path, "two.jsonl.zst")) == 2


def test_lines_that_cannot_be_used(tmp_path):
    good = {"request": asked("Q?"), "response": answered("A")}
    bad = {
        "not json": "this line is not JSON",
        "[1]": "this is not an object but list",
        json.dumps({"response": answered("A")}): "it has no messages, and so no task",
        json.dumps({"request": {"messages": [{"role": "user"}]}, "response": {"choices": []}}): "it names no model",
        json.dumps({"request": asked("Q?"), "response": {"object": "embedding"}}): "its response has no choices",
        json.dumps(
            {"request": asked("Q?"), "response": {"choices": [{"delta": {}}]}}
        ): "a choice has no message (a streamed",
        json.dumps({"request": asked("Q?"), "response": answered("A", usage=(-1, 2))}): "its usage cannot be: ",
        json.dumps({"request": "{", "response": {}}): "this is not JSON: '{'",
    }
    for text, reason in bad.items():
        lines(tmp_path, "log.jsonl", good, text, good)
        said = imported(tmp_path, "openai", "log.jsonl", status=2)
        assert f"log.jsonl:2: {reason}" in said, said
        assert "Nothing was written" in said
        assert not (tmp_path / "records.jsonl").exists()
        said = imported(tmp_path, "openai", "log.jsonl", options=["--skip-bad"], out="skipped.jsonl")
        assert "skipped: log.jsonl:2: " in said
        assert len(records(tmp_path, "skipped.jsonl")) == 2
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_what_stands_in_the_place_of_an_object_is_passed_over(tmp_path):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": "none"}
    row = {"call_type": "completion", "model": "m", "metadata": [], "proxy_server_request": {"body": None}}
    spent = {**row, **usage, "messages": asked("Q?")["messages"], "response": answered("A")}
    lines(tmp_path, "log.jsonl", {"request": asked("Q?"), "response": {**answered("A"), "usage": usage}})
    lines(tmp_path, "spend.jsonl", spent)
    for name, log in (("openai", "log.jsonl"), ("litellm", "spend.jsonl")):
        imported(tmp_path, name, log)
        assert (records(tmp_path)[0].input_tokens, records(tmp_path)[0].output_tokens) == (3, 2)
    lines(tmp_path, "spend.jsonl", {**spent, "spend": float("nan")})
    assert "its spend is no number" in imported(tmp_path, "litellm", "spend.jsonl", status=2)


def test_wrong_usage(tmp_path):
    log = lines(tmp_path, "log.jsonl", {"request": asked("Q?"), "response": answered("A")})
    assert "there is no file nothing.jsonl" in imported(tmp_path, "openai", "nothing.jsonl", status=2)
    assert "is a folder" in imported(tmp_path, "openai", ".", status=2)
    assert "is one of the files that are read" in imported(tmp_path, "openai", log, out=log, status=2)
    assert "is not --worker OLD=NEW" in imported(tmp_path, "openai", log, options=["--worker", "x"], status=2)
    assert "cannot be written" in imported(tmp_path, "openai", log, out="no/where.jsonl", status=2)
    lines(tmp_path, "empty.jsonl")
    assert "there is no answer of a model" in imported(tmp_path, "openai", "empty.jsonl", status=2)
    (tmp_path / "latin.jsonl").write_bytes('{"request": "ä"}'.encode("latin-1"))
    assert "this is not UTF-8 text" in imported(tmp_path, "openai", "latin.jsonl", status=2)
    (tmp_path / "bench.pkl").write_bytes(b"\x80\x04")
    assert "a pickle can run any code" in imported(tmp_path, "routerbench", "bench.pkl", status=2)


def test_the_content_policy_holds_for_imports(tmp_path):
    lines(tmp_path, "log.jsonl", {"request": asked("Mail ana@example.com?"), "response": answered("SECRET")})
    (tmp_path / "orchestrion.yaml").write_text("redact: [email]\n")
    imported(tmp_path, "openai", "log.jsonl")
    assert records(tmp_path)[0].prompt == "Mail [email]?"
    (tmp_path / "orchestrion.yaml").write_text("record: none\n")
    imported(tmp_path, "openai", "log.jsonl")
    assert "SECRET" not in (tmp_path / "records.jsonl").read_text()
    assert records(tmp_path)[0].input_tokens == 100


# LiteLLM


def spend(**more):
    row = {
        "request_id": "chatcmpl-1",
        "call_type": "acompletion",
        "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "spend": 0.0123,
        "total_tokens": 120,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "startTime": "2026-01-02T03:04:05.000Z",
        "endTime": "2026-01-02T03:04:07.500Z",
        "model": "anthropic/claude-3",
        "model_group": "claude",
        "custom_llm_provider": "anthropic",
        "metadata": {"status": "success", "usage_object": {"prompt_tokens_details": {"cached_tokens": 60}}},
        "cache_hit": "False",
        "request_tags": [],
        "messages": {},
        "response": answered("Vienna", "claude-3"),
        "proxy_server_request": {"model": "claude", "messages": asked("Capital?")["messages"]},
        "status": "success",
    }
    return row | more


LITELLM = [
    spend(),
    spend(request_id="2", cache_hit="True", spend=0.0),
    spend(request_id="3", model="openai/gpt-4o", metadata={}),
    spend(
        request_id="4",
        status="failure",
        response={},
        spend=0,
        metadata={"error_information": {"error_code": "429", "error_message": "slow down"}},
    ),
    spend(request_id="5", call_type="aembedding"),
]


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_litellm_spend_logs(tmp_path, form):
    if form == "csv":  # Postgres' \copy … csv header: JSON stands as text
        with (tmp_path / "spend.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(LITELLM[0]))
            writer.writeheader()
            writer.writerows(
                {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in row.items()}
                for row in LITELLM
            )
    elif form == "json":
        (tmp_path / "spend.json").write_text(json.dumps(LITELLM))
    else:
        lines(tmp_path, "spend.jsonl", *LITELLM)
    said = imported(tmp_path, "litellm", f"spend.{form}")
    first, cached, gpt, failed = records(tmp_path)
    assert len({one.task_id for one in records(tmp_path)}) == 1
    assert (first.worker, first.prompt, first.output, first.cached) == (
        "anthropic/claude-3",
        "Capital?",
        "Vienna",
        False,
    )
    assert (first.cost_usd, first.latency_s, first.cache_read_tokens) == (0.0123, 2.5, 60)
    assert (cached.cached, cached.sample, cached.attempt, cached.cost_usd) == (
        True,
        0,
        1,
        None,
    )  # a repetition, not a draw
    known = listed("gpt-4o", provider="openai", base_url=None)
    assert known
    price = known.price
    assert gpt.cost_usd == usd(-(-(100 * price.input + 20 * price.output) // 1_000_000))
    assert (failed.failure, failed.sample) == ("http_429: slow down", 1)
    assert "left out: 1 (calls of type aembedding)" in said
    assert "1 from a cache" in said


def test_litellm_without_messages(tmp_path):
    lines(tmp_path, "spend.jsonl", spend(proxy_server_request="{}", messages="{}"))
    said = imported(tmp_path, "litellm", "spend.jsonl", status=2)
    assert "spend.jsonl:1: its messages were not kept (`store_prompts_in_spend_logs: true`" in said
    lines(tmp_path, "spend.jsonl", spend(prompt_tokens="many"))
    assert "its prompt_tokens is no number: 'many'" in imported(tmp_path, "litellm", "spend.jsonl", status=2)


# Public routing data

WEAK, STRONG = "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"


def table(folder, name, rows):
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_routellms_layout(tmp_path):
    table(
        tmp_path,
        "mmlu_anatomy.csv",
        [
            {"prompt": 'A "dished" face\nA. one\nAnswer:', WEAK: True, STRONG: False},
            {"prompt": "Leaked?", WEAK: True, STRONG: True},
        ],
    )
    table(
        tmp_path,
        "gsm8k_responses.csv",
        [{"prompt": "6 × 7?", WEAK: False, STRONG: True, f"{WEAK}_response": "41", f"{STRONG}_response": "It is 42."}],
    )
    lines(tmp_path, "contaminated_prompts.jsonl", {"eval_prompt": "Leaked?"})
    judged = "[Instruction]\nJudge.\n\n[Question]\nWhy?\n\n[The Start of Assistant's Answer]\nBecause.\n[The End of Assistant's Answer]"
    twice = (
        "<|The Start of Assistant A's Conversation with User|>\n\n### User:\nWhy?\n\n### Assistant A:\nBecause.\n\n"
        "### User:\nReally?\n\n### Assistant A:\nYes.\n\n<|The End of Assistant A's Conversation with User|>"
    )
    judgement = {
        "question_id": 141,
        "model": STRONG,
        "judge": ["gpt-4", "single-v1"],
        "judgment": "Rating: [[9]]",
        "tstamp": 1.0,
    }
    lines(
        tmp_path,
        "judgements.jsonl",
        {**judgement, "user_prompt": judged, "score": 9, "turn": 1},
        {**judgement, "user_prompt": twice, "score": 10, "turn": 2},
        {**judgement, "user_prompt": judged, "score": -1, "turn": 1},
    )
    said = imported(
        tmp_path,
        "routellm",
        "mmlu_anatomy.csv",
        "gsm8k_responses.csv",
        "judgements.jsonl",
        "contaminated_prompts.jsonl",
    )
    assert "left out: 2 (contaminated prompts)" in said
    assert "left out: 1 (judgements without a score)" in said
    assert "without a cost" not in said
    weak, strong, wrong, right, one, two = records(tmp_path)
    assert (weak.workload, weak.tags, weak.worker, weak.score, weak.label_source) == (
        "mmlu",
        {"subject": "anatomy"},
        WEAK,
        1.0,
        "reference",
    )
    assert (strong.score, strong.output, strong.output_tokens, strong.tokens_estimated) == (0.0, None, 1, True)
    assert (wrong.workload, wrong.score, right.output) == ("gsm8k", 0.0, "It is 42.")
    assert weak.task_id == strong.task_id != wrong.task_id == right.task_id
    assert (one.task_id, one.prompt, one.output, one.score, one.label_source) == (
        "mt-bench-141-1",
        "Why?",
        "Because.",
        0.9,
        "judge",
    )
    assert (two.task_id, two.prompt, two.output, two.score) == ("mt-bench-141-2", "Really?", "Yes.", 1.0)


def test_routerbenchs_layout(tmp_path):
    row = {"sample_id": "mmlu.1", "prompt": "['Which?\\nAnswer:']", "eval_name": "mmlu-law", "a/b": 1.0, "c": 0.25}
    row |= {
        "a/b|model_response": "['A']",
        "c|model_response": "B",
        "a/b|total_cost": 0.001,
        "c|total_cost": "",
        "oracle_model_to_route_to": "c",
    }
    table(tmp_path, "routerbench.csv", [row])
    imported(tmp_path, "routerbench", "routerbench.csv")
    one, other = records(tmp_path)
    assert (one.worker, one.prompt, one.output, one.score, one.cost_usd) == ("a/b", "Which?\nAnswer:", "A", 1.0, 0.001)
    assert (other.worker, other.score, other.cost_usd, other.tags) == ("c", 0.25, None, {"benchmark": "mmlu-law"})


def test_routing_data_that_cannot_be_used(tmp_path):
    table(tmp_path, "t_.csv", [{"prompt": "Q", WEAK: "perhaps"}])
    assert f"t_.csv:2: the column '{WEAK}' says 'perhaps': True, False or a number" in imported(
        tmp_path, "routellm", "t_.csv", status=2
    )
    table(tmp_path, "t_.csv", [{"question": "Q", WEAK: "True"}])
    assert "it has no column 'prompt'" in imported(tmp_path, "routellm", "t_.csv", status=2)
    (tmp_path / "t_.csv").write_text('prompt,m\n"a,b",True\nc\n')
    assert "t_.csv:3: this row has 1 cells, and the header 2" in imported(tmp_path, "routellm", "t_.csv", status=2)


DATA = Path(__file__).parents[3] / "shared" / "data" / "routellm.jsonl.zst"


@pytest.mark.skipif(not DATA.exists(), reason=f"no recorded answers at {DATA}: the project does not ship them")
def test_real_routing_data_gives_the_same_figures(tmp_path):
    """The data that our figures rest on, in RouteLLM's own layout: imported, they replay to the same quality and cost."""
    names = {"mistralai/Mixtral-8x7B-Instruct-v0.1": WEAK, "gpt-4-1106-preview": STRONG}
    tasks: dict[str, dict[str, dict]] = defaultdict(dict)
    for row in read_records(DATA):
        if row["workload"] == "routellm_gsm8k":
            tasks[row["prompt"]][names[row["worker"]]] = row
    both = {prompt: rows for prompt, rows in tasks.items() if len(rows) == 2}
    assert len(both) > 900
    table(
        tmp_path,
        "gsm8k_responses.csv",
        [
            {"prompt": prompt}
            | {model: rows[model]["score"] == 1 for model in rows}
            | {f"{model}_response": rows[model]["output"] for model in rows}
            for prompt, rows in both.items()
        ],
    )
    known = [row | {"worker": model} for rows in both.values() for model, row in rows.items()]
    lines(tmp_path, "known.jsonl", *known)
    (tmp_path / "orchestrion.yaml").write_text(
        f"models:\n  {WEAK}: {{model: simulated, price: {{input: 0.24, output: 0.24}}}}\n"
        f"  {STRONG}: {{model: simulated, price: {{input: 10, output: 30}}}}\n"
    )
    imported(tmp_path, "routellm", "gsm8k_responses.csv")
    for policy in (WEAK, STRONG, {"policy": "cascade", "stages": [WEAK, STRONG]}):
        lines(tmp_path, "policy.json", {"format": "orchestrion/policy/1", "policy": policy})
        figures = [
            json.loads(command(tmp_path, "replay", file, "--policy", "policy.json", "--json"))
            for file in ("records.jsonl", "known.jsonl")
        ]
        assert figures[0]["tasks"] == len(both)
        for name in ("quality", "cost_usd", "frontier_quality", "frontier_cost_usd"):
            assert figures[0][name] == pytest.approx(figures[1][name], rel=1e-9)
        assert figures[0]["calls"] == figures[1]["calls"]
