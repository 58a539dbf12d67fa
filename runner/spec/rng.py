"""Random streams. Every stage draws from its own generators.

A run that reads stages from the cache therefore equals, bit for bit, a run that computes them all.
"""

import hashlib

from torch import Generator


def derive(seed: int, stage: str, purpose: str) -> int:
    """A 63-bit number that depends only on the three arguments."""
    digest = hashlib.sha256(f"{seed}/{stage}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # manual_seed takes a signed 64-bit number


def stream(seed: int, stage: str, purpose: str) -> Generator:
    """A new CPU generator for one purpose of one stage.

    Equal arguments give equal numbers; different arguments give independent ones.
    """
    return Generator().manual_seed(derive(seed, stage, purpose))
