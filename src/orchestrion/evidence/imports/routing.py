"""Public routing data: what several models answered to the same prompts.

RouteLLM's layout: a CSV with a column `prompt`, a column for each model that says whether (or how well) it was right, and,
where there is one, MODEL_response; MT-Bench's judgements as JSON lines; lists of contaminated prompts, which are left out.
RouterBench's layout: the same with MODEL|model_response and MODEL|total_cost, beside sample_id and eval_name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrion.domain import Usage
from orchestrion.errors import RecordsError
from orchestrion.evidence.imports.convert import Found, Imported, LeftOut, task_of
from orchestrion.evidence.imports.lines import Line, lines
from orchestrion.evidence.imports.openai import Unusable

CHARACTERS_A_TOKEN = 4
"""These data have no tokens: they are estimated."""

RESPONSE, BENCH_RESPONSE, BENCH_COST = "_response", "|model_response", "|total_cost"
NO_MODELS = {"prompt", "sample_id", "eval_name", "oracle_model_to_route_to", ""}
BEST_JUDGEMENT = 10
"""MT-Bench's judge gives 1 to 10."""


def read(paths: Sequence[Path]) -> Iterator[Found]:
    """Every answer of every model. Lists of contaminated prompts (lines of {"eval_prompt"}) are read first."""
    lists = [path for path in paths if "contaminated" in path.name]
    contaminated = {line.data.get("eval_prompt") for line in lines(lists) if isinstance(line, Line)}
    for line in lines([path for path in paths if path not in lists]):
        if isinstance(line, RecordsError):
            yield line
            continue
        try:
            found = _judgement(line) if "judge" in line.data and "question_id" in line.data else _answers(line)
            for one in found:
                known = isinstance(one, Imported) and one.prompt in contaminated
                yield LeftOut("contaminated prompts") if known else one
        except Unusable as unusable:
            yield line.bad(str(unusable))


def _answers(line: Line) -> Iterator[Found]:
    """One row: an answer of each model."""
    row = line.data
    if "prompt" not in row:
        raise Unusable("it has no column 'prompt'")
    prompt = _text(row["prompt"]) if "sample_id" in row else row["prompt"]
    models = [
        name for name in row if name not in NO_MODELS and not name.endswith((RESPONSE, BENCH_RESPONSE, BENCH_COST))
    ]
    if not models:
        raise Unusable("it has no column of a model beside 'prompt'")
    workload, tags = _place(line)
    for model in models:
        if row[model] in ("", None):
            continue  # this model was not asked
        output = row.get(model + BENCH_RESPONSE, row.get(model + RESPONSE))
        output = _text(output) if model + BENCH_RESPONSE in row else None if output is None else str(output)
        yield Imported(
            task_of({"messages": [{"role": "user", "content": prompt}]}),
            model,
            prompt,
            output,
            workload,
            tags,
            _score(row[model], model),
            "reference",
            Usage(tokens(prompt), tokens(output) if output else 1, estimated=True),
            _cost(row.get(model + BENCH_COST)),
        )


def _judgement(line: Line) -> Iterator[Found]:
    """One of MT-Bench's judgements: a turn of a model, and the judge's score."""
    row = line.data
    score, turn = row.get("score"), row.get("turn", 1)
    if not isinstance(score, int | float) or not isinstance(row.get("model"), str):
        raise Unusable("a judgement has a model and a score")
    if score < 0:
        yield LeftOut("judgements without a score")
        return
    if not 0 <= score <= BEST_JUDGEMENT:
        raise Unusable(f"its score is {score}, and the judge gives 1 to {BEST_JUDGEMENT}")
    prompt, output = _turn(str(row.get("user_prompt", "")))
    usage = Usage(tokens(prompt), tokens(output), estimated=True) if prompt and output else None
    yield Imported(
        f"mt-bench-{row['question_id']}-{turn}",
        row["model"],
        prompt,
        output,
        "mt_bench",
        {"turn": str(turn)},
        score / BEST_JUDGEMENT,
        "judge",
        usage,
    )


def _turn(shown: str) -> tuple[str | None, str | None]:
    """The question and the answer in what the judge was shown: of two turns, the second."""
    one = re.search(
        r"\[Question\]\n(.*?)\n\n\[The Start of (?:Reference|Assistant).*\[The Start of Assistant's Answer\]\n(.*?)\n\[The End of Assistant's Answer\]"
        if "[The Start of Reference" in shown
        else r"\[Question\]\n(.*?)\n\n\[The Start of Assistant's Answer\]\n(.*?)\n\[The End of Assistant's Answer\]",
        shown,
        re.DOTALL,
    )
    two = re.search(
        r".*<\|The Start of Assistant A's.*### User:\n(.*?)\n\n### Assistant A:\n(.*?)\n*<\|The End of Assistant A's",
        shown,
        re.DOTALL,
    )
    match = one or two
    return (match[1], match[2]) if match else (None, None)


def _place(line: Line) -> tuple[str, dict[str, str]]:
    """Workload and tags, from the columns or from the file's name: mmlu_anatomy.csv, gsm8k_responses.csv."""
    if "eval_name" in line.data:
        return "routerbench", {"benchmark": str(line.data["eval_name"])}
    stem = line.file.name.partition(".")[0]
    workload, _, subject = stem.partition("_")
    return workload, {"subject": subject} if workload == "mmlu" and subject else {}


def _score(value: Any, model: str) -> float:
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise Unusable(
            f"the column '{model}' says {str(value)[:40]!r}: True, False or a number from 0 to 1 says whether it was right"
        )
    return score


def _cost(value: Any) -> float | None:
    try:
        return None if value in (None, "") else float(value)
    except (ValueError, TypeError, OverflowError):
        raise Unusable(f"a cost is no number: {str(value)[:40]!r}") from None


def _text(value: Any) -> str:
    """RouterBench writes texts as Python lists of one."""
    text = str(value)
    if not text.startswith("["):
        return text
    try:
        parts = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return "\n".join(map(str, parts)) if isinstance(parts, list) else text


def tokens(text: str) -> int:
    """An estimate, as for the published figures of these data."""
    return max(1, round(len(text) / CHARACTERS_A_TOKEN))
