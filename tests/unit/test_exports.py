from __future__ import annotations

import subprocess
import sys
import time

import orchestrion


def test_the_public_names_are_few_and_all_there():
    assert len(orchestrion.__all__) <= 25
    assert list(orchestrion.__all__) == sorted(orchestrion.__all__)
    for name in orchestrion.__all__:
        assert getattr(orchestrion, name) is not None
    assert set(orchestrion.__all__) <= set(dir(orchestrion))


def test_every_public_name_has_a_docstring():
    assert [name for name in orchestrion.__all__ if not getattr(orchestrion, name).__doc__] == []


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(orchestrion, "Manager")


def test_importing_loads_nothing_heavy():
    """A second costs nobody anything once, but a command line pays it at every keystroke of the shell."""
    heavy = ("aiohttp", "apsw", "genai_prices", "opentelemetry.sdk", "yaml", "rich")
    script = f"import sys, orchestrion; print([m for m in {heavy!r} if m in sys.modules])"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - started < 2  # 0.05 s here; a generous guard against a network or a table at import


def test_a_star_import_gives_the_public_names():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from orchestrion import *; print(Step.__name__, gather.__name__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["Step", "gather"]
