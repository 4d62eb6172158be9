"""Code by three workers: one writes tests, one writes code until they pass, one audits it until nothing is left to say.

The tests are really run. python examples/code_tests_audit.py runs offline; with --live by real models.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE

from pydantic import BaseModel
from stage import play

from orchestrion import Orchestrion, Step, Task, corrected, workflow
from orchestrion.domain import Money

TIMEOUT_S = 10
ROUNDS = 3
ORDER = """\
save_path(folder: str, name: str) -> str: where an upload called `name` is stored: a path in `folder`.
Spaces become underscores. An empty name, and one that would lead out of the folder, raise ValueError."""


class Audit(BaseModel):
    findings: list[str]


async def passes_the_tests(code: str, task: Task) -> str | None:
    """In a process of its own, with a limit of time. That is no sandbox: strangers' code belongs in a container."""
    program = f"{code}\n\n{task.input['tests']}"
    run = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", program, stdout=DEVNULL, stderr=PIPE)
    try:
        _, said = await asyncio.wait_for(run.communicate(), TIMEOUT_S)
    except TimeoutError:
        run.kill()
        await run.wait()
        return f"the tests did not end within {TIMEOUT_S} seconds"
    return f"a test failed:\n{said.decode()[-400:]}" if run.returncode else None


def are_tests(tests: str) -> str | None:
    try:
        compile(tests, "tests", "exec")
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    return None if tests.count("assert") >= 3 else "fewer than three asserts"


PLAIN = "Answer with plain Python only: no Markdown, the standard library."
test = Step("test", f"Write tests (plain asserts) of the function. {PLAIN}", checks=[are_tests], policy="tester")
write = Step(
    "write",
    f"Write the function, so that the tests pass and the audit's findings are mended. {PLAIN}",
    checks=[passes_the_tests],
    policy=corrected("writer", times=2),
)
audit = Step("audit", "List what an attacker could use in the function, or nothing.", output=Audit, policy="auditor")


@workflow
async def build(order: str) -> str:
    tests, findings = await test(order), list[str]()
    for n in range(ROUNDS):
        code = await write({"order": order, "tests": tests, "findings": findings})
        findings = (await audit({"order": order, "code": code})).findings
        print(f"round {n + 1}: the tests pass; the auditor says: {'; '.join(findings) or 'nothing'}")
        if not findings:
            break
    return code if not findings else f"# NOT AUDITED CLEAN: {'; '.join(findings)}\n{code}"


async def main(o: Orchestrion) -> Money:
    run = await o.run(build, ORDER, id="save-path")
    refused = [outcome for outcome in o.outcomes() if outcome.step == "write" and not outcome.accepted]
    print(f"\n{run.result}\n{len(refused)} version(s) refused by the tests")
    return run.cost


if __name__ == "__main__":
    play(main)
