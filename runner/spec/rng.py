"""Random streams: every stage draws from generators of its own, so that a run from a warm cache equals a cold one bit for bit."""

import hashlib

from torch import Generator


def derive(seed: int, stage: str, purpose: str) -> int:
    """A 63-bit number that depends on the three arguments and on nothing else."""
    digest = hashlib.sha256(f"{seed}/{stage}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # Generator.manual_seed takes a signed 64-bit number


def stream(seed: int, stage: str, purpose: str) -> Generator:
    """A fresh CPU generator for one purpose of one stage: the same arguments give the same numbers, others give independent ones."""
    return Generator().manual_seed(derive(seed, stage, purpose))
