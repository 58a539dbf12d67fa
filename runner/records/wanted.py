"""What a command requests of a finished run besides its record."""

from dataclasses import dataclass

from runner.records.predictions import PREDICTIONS
from runner.records.stored import StoredRun
from runner.spec.findings import is_diverged
from runner.spec.identity import stage_keys
from runner.spec.run import Run, required_extras


@dataclass(frozen=True)
class Wanted:
    """What a finished run must have. A run without it is executed again; its stages are cached.

    Args:
        predictions: its predictions on the test images; a run without an accuracy has none.
        stages: cache keys of measurements beside the run (`Stage.extra`); a run that diverged has
            none.
    """

    predictions: bool = False
    stages: frozenset[str] = frozenset()

    @classmethod
    def of(cls, run: Run, predictions: bool) -> "Wanted":
        """What is requested of a run, given whether its predictions are."""
        names = required_extras(run)
        keys = stage_keys(run) if names else {}
        return cls(predictions, frozenset(keys[name] for name in names))

    def __bool__(self) -> bool:
        return self.predictions or bool(self.stages)

    def complete(self, run: StoredRun | None) -> bool:
        """Whether a run is finished and has it all."""
        if run is None:
            return False
        record = run.record
        if self.predictions and PREDICTIONS not in run.series and record["accuracy"] is not None:
            return False
        return is_diverged(record) or self.stages <= {stage["key"] for stage in record["stages"]}


NOTHING = Wanted()
