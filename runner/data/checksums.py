"""Reads files with known checksums; on a mismatch, the error shows both checksums."""

import hashlib
from pathlib import Path

from runner.data.base import DataError


def digest(content: bytes, like: str) -> str:
    """Hexadecimal checksum of the kind of `like`: MD5 has 32 digits, SHA-256 has 64."""
    if len(like) == 32:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: Path) -> bytes:
    """Return the contents of a file; raise `DataError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def damaged(path: Path, content: bytes, expected: str) -> DataError:
    """The error for a file whose checksum is wrong."""
    kind = "MD5" if len(expected) == 32 else "SHA-256"
    found = digest(content, like=expected)
    return DataError(
        f"{path} is corrupt or truncated ({len(content):,} bytes): {kind} is {found}, expected"
        f" {expected}; delete it and fetch it again"
    )


def read_verified(path: Path, expected: str) -> bytes:
    """Return the contents of a file; raise `DataError` unless its MD5 or SHA-256 is `expected`."""
    content = read_bytes(path)
    if digest(content, like=expected) != expected:
        raise damaged(path, content, expected)
    return content
