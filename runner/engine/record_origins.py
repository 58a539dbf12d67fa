"""The provenance of a record: by what its stages were computed, and what is the run's own."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from runner.engine.context import RunContext
from runner.engine.memory import GIB
from runner.engine.stage_meta import DoneStage
from runner.records.provenance import OWN
from runner.records.stored import ORIGIN, ORIGINS
from runner.registry import find_part, own_version
from runner.spec.identity import NUMERICS, own_parts
from runner.spec.record import Provenance, ProvenanceIfAny, RecordedOrigin
from runner.spec.run import Run


@dataclass(frozen=True)
class Origins:
    """By what the stages of a run were computed (`Origin` as JSON; None if that was not stored).

    Args:
        distinct: each origin once, in the order of the stages.
    """

    distinct: list[RecordedOrigin | None]

    @classmethod
    def of(cls, stages: Sequence[DoneStage]) -> "Origins":
        """The origins of stages, given their metadata."""
        distinct: list[RecordedOrigin | None] = []
        for meta in stages:
            if meta.get(ORIGIN) not in distinct:
                distinct.append(meta.get(ORIGIN))
        return cls(distinct)

    @property
    def mixed(self) -> bool:
        """Whether the stages have different origins."""
        return len(self.distinct) > 1

    @property
    def mixture(self) -> ProvenanceIfAny:
        """The origins for the provenance of a record; {} if there is only one."""
        return {ORIGINS: self.distinct} if self.mixed else {}


def provenance_of(
    context: RunContext, stages: Sequence[DoneStage], started: str, finished: str
) -> Provenance:
    """Provenance of the record's numbers."""
    run, origins = context.run, Origins.of(stages)
    essential = {stage.name for stage in run.essential}
    last = [meta.get(ORIGIN) for meta in stages if meta["name"] in essential][-1]
    return {
        **(last or context.origin.as_json()),  # unknown: the present process's
        **origins.mixture,
        "memory_gb": None if context.memory == inf else context.memory / GIB,
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "numerics": {kind: NUMERICS[kind] for kind in sorted({s.kind for s in run.stages})},
        "precision": run.precision,
        "dataset_checksum": stages[-1]["dataset_checksum"],
        **_own(run),
        "started": started,
        "finished": finished,
    }


def _own(run: Run) -> ProvenanceIfAny:
    """Where the parts of the user's own in a run are from, by tag; {} if it has none."""
    found = {
        tag: {"from": find_part(tag).source, "version": own_version(cls)}
        for tag, cls in sorted(own_parts(run).items())
    }
    return {OWN: found} if found else {}
