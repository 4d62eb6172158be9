"""Make the peers' environments: python -m benchmarks.peers.setup [NAME …]

Each has a virtual environment of its own, of the Python that runs this, in the folder that ORCHESTRION_PEERS names
(default: ~/.cache/orchestrion-peers).
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("langgraph", "agent_framework", "llamaindex", "pydantic_graph", "burr", "dbos")
CAPPED = ("litellm",)
"""Peers of the ledger: benchmarks.ledger."""


def environment(name: str) -> Path:
    """Where a peer's environment is, or would be."""
    return Path(os.environ.get("ORCHESTRION_PEERS") or Path.home() / ".cache" / "orchestrion-peers") / name


def main() -> None:
    known = (*NAMES, *CAPPED)
    names = sys.argv[1:] or known
    for name in names:
        if name not in known:
            sys.exit(f"no peer is called '{name}'. There are: {', '.join(known)}.")
    for name in names:
        folder = environment(name)
        print(f"{name}: {folder}", flush=True)
        venv.create(folder, with_pip=True)
        requirements = HERE / f"requirements-{name}.txt"
        done = subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", str(requirements)], check=False
        )
        if done.returncode:
            print(f"{name}: cannot be installed here; what it should be measured in is left out", file=sys.stderr)


if __name__ == "__main__":
    main()
