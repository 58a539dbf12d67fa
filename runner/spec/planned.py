"""A planned run: its identity, the overrides that make it, and an outline that needs no component.

A run's components are classes in modules that import torch. Tables and plans of finished runs read
the outline; the run itself is built where something asks for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from runner.spec.identity import identify_all
from runner.spec.run import Run, required_extras, trains


@dataclass(frozen=True)
class Outline:
    """What pages and plans state about a run besides its record.

    Args:
        model, dataset: their names.
        size: height and width to which images are padded or scaled; None = their own.
        test_images, classes: their numbers; 0 where there are none.
        epochs: those that each stage trains.
        tested: `test_every` of each stage that trains.
    """

    model: str
    dataset: str
    size: int | None
    test_images: int
    classes: int
    seed: int
    density: float | None
    train_fraction: float
    scale: float
    epochs: tuple[int, ...]
    tested: tuple[int, ...]


@dataclass(frozen=True)
class PlannedRun:
    """One run and its identity.

    Args:
        overrides: the command-line overrides that make it.
        keys: stage name -> cache key.
        required: cache keys of the stages beside the run without which it lacks something.
        build: builds the run.
    """

    run_id: str
    overrides: tuple[str, ...]
    keys: dict[str, str]
    required: frozenset[str]
    outline: Outline
    build: Callable[[], Run] = field(repr=False, compare=False)

    @cached_property
    def run(self) -> Run:
        """The run; its components import torch."""
        return self.build()


def plan_run(run: Run, overrides: tuple[str, ...] = ()) -> PlannedRun:
    """One run with its identity."""
    return plan_runs([run], [overrides])[0]


def plan_runs(runs: Sequence[Run], overrides: Sequence[tuple[str, ...]]) -> tuple[PlannedRun, ...]:
    """Each run with its identity. Stages that runs share are serialized once."""
    return tuple(
        PlannedRun(
            of.run_id,
            own,
            of.keys,
            frozenset(of.keys[name] for name in required_extras(run)),
            outline_of(run),
            partial(_itself, run),
        )
        for run, own, of in zip(runs, overrides, identify_all(runs), strict=True)
    )


def outline_of(run: Run) -> Outline:
    """The outline of a run."""
    info = run.dataset.info()
    return Outline(
        model=run.model.name,
        dataset=run.dataset.name,
        size=getattr(run.dataset, "size", None),
        test_images=info.test,
        classes=info.classes,
        seed=run.seed,
        density=run.density,
        train_fraction=run.train_fraction,
        scale=run.scale,
        epochs=tuple(map(trains, run.stages)),
        tested=tuple(stage.recipe.test_every for stage in run.stages if stage.recipe),
    )


def _itself(run: Run) -> Run:
    return run
