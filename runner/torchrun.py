"""The environment of processes that torchrun starts.

Only torchrun's complete set of variables counts. Single variables, which clusters and containers
also set, are ignored.
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Further variables that torchrun sets for its processes.
OTHERS = ("LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
RESTART = "TORCHELASTIC_RESTART_COUNT"
PREFIXES = ("ROLE_", "TORCHELASTIC_")
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Ranks:
    """A process' place among those that torchrun started.

    Args:
        rank: among all processes.
        local: among those of this machine.
        size: number of all processes.
        restart: how often torchrun has restarted them (`--max-restarts`).
    """

    rank: int = 0
    local: int = 0
    size: int = 1
    restart: int = 0


ONE = Ranks()


def ranks(environment: Mapping[str, str] = os.environ) -> Ranks:
    """The place of this process; one process if the set is not complete."""
    if _problem(environment):
        return ONE
    rank, local, size = (int(environment[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    restart = environment.get(RESTART, "")
    return Ranks(rank, local, size, int(restart) if restart.isdecimal() else 0)


def stop_with_torchrun() -> None:
    """Request SIGTERM for the death of torchrun, which says nothing when SIGKILL ends it.

    They would train on beside those of a repeated command, or wait for each other without end.
    Linux only.
    """
    if sys.platform == "linux" and ranks().size > 1:
        import ctypes  # other commands do without it

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def ignored(environment: Mapping[str, str] = os.environ) -> str:
    """A message if the environment has a part of torchrun's set that names several processes.

    The message is empty if it has none, or the complete set.
    """
    names = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name in environment]
    problem = _problem(environment)
    if not problem or all(environment[name] == str(int(name == "WORLD_SIZE")) for name in names):
        return ""
    shown = " ".join(f"{name}={environment[name]}" for name in names)
    return (
        f"{shown} in the environment is ignored, this is one process: {problem}; torchrun sets"
        f" {', '.join(NEEDED)}"
    )


def without_torchrun(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without torchrun's variables, for processes of their own."""
    return {
        name: value
        for name, value in environment.items()
        if name not in (*NEEDED, *OTHERS) and not name.startswith(PREFIXES)
    }


def _problem(environment: Mapping[str, str]) -> str:
    """Why the variables are not torchrun's complete set; empty if they are."""
    missing = [name for name in NEEDED if not environment.get(name)]
    if missing:
        return f"{', '.join(missing)} is not set"
    numbers = [environment[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        return "they are not whole numbers"
    rank, local, size = map(int, numbers)
    return "" if local <= rank < size else "LOCAL_RANK <= RANK < WORLD_SIZE does not hold"
