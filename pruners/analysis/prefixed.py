"""A measurement whose findings carry a prefix, for runs that make it in two ways.

A record's report has one place for each finding, so the names must differ. From no paper.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import nn

from pruners.base import Foreseen, Masks, Measure, Measurement, Task, Work


class Planned(Measure, Foreseen, Protocol):
    """A measurement whose cost a plan can count."""


@dataclass(frozen=True)
class Prefixed:
    """Measure stage: run `measure` and rename every finding, tensor and series `<name>_...`.

    Args:
        name: in lower case, as in findings.
    """

    tag: ClassVar[str] = "prefixed"
    name: str
    measure: Planned

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(
                f"portrait: name={self.name!r} of a measurement must be an identifier: it prefixes"
                " the names of its findings"
            )

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return the measurement with prefixed names; the model is not changed."""
        found = self.measure(model, masks, task)
        tensors, report, series = (
            {f"{self.name}_{key}": value for key, value in part.items()}
            for part in (found.tensors, found.report, found.series)
        )
        return Measurement(tensors, report, series)  # type: ignore[arg-type]

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """The cost of `measure`."""
        return self.measure.work(prunable, parameters, images)
