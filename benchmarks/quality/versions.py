"""What figures depend on, and a parser of names on the command line."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version

LIBRARIES = ("numpy", "scipy", "scikit-learn")


def versions() -> str:
    """Python and the libraries that figures depend on."""
    return f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def among(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A parser of names with commas between them."""
    names = list(known)

    def parse(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",")]
        for name in found:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of: {', '.join(names)}")
        return found

    return parse
