"""Zstandard, from Python 3.14 on in the standard library: ``from orchestrion.store.zstd import zstd``."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
