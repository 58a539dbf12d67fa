"""The vectors of Lanczos runs are part of the bound on memory, and every measurement keeps it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from imc_cases import Constant, constant_task
from small_nets import allocated
from support import compose_run, machine, perform_run
from torch import Tensor

from pruners.analysis.ritz_signs import RitzSigns
from pruners.base import full_masks
from pruners.curvature.options import HessianOptions, SpectrumOptions
from pruners.curvature.spectrum import Spectrum
from pruners.memory import GIB

D, STEPS = 20_000, 60
DOUBLE = HessianOptions(dtype="float64")
VALUES = torch.cat([torch.linspace(50, 100, 20), torch.linspace(-1, 1, D - 20)]).double()


def outliers(logits: Tensor, _: Tensor) -> Tensor:
    """A loss of a `Constant` whose Hessian is diagonal, with 20 outliers."""
    return 0.5 * (VALUES * logits**2).sum(1).mean()


def slq(subspace: str = "smoothed_curved", **options: Any) -> Spectrum:
    density = None if subspace == "smoothed_curved" else 0.5
    spectrum = SpectrumOptions(**{"steps": STEPS, "probes": 3} | options)
    return Spectrum(DOUBLE, spectrum, subspace, density=density)


# measurement, numbers of vectors (D,) at its peak: at least, at most
CASES = {
    "equal runs": (slq(), STEPS, STEPS),
    "deflated runs": (slq(deflated_steps=5), STEPS + 10, 2 * STEPS),
    "a hard cut": (slq("curved"), 3 * STEPS, 3 * STEPS),
    "one run": (slq(estimator="lanczos_extremes"), STEPS + 10, 2 * STEPS),
    "a portrait": (RitzSigns(DOUBLE, steps=(5, STEPS), counted=5, probes=3), STEPS, STEPS),
}


@pytest.mark.parametrize("name", CASES)
def test_the_vectors_that_are_counted_are_those_that_are_held(name: str) -> None:
    measure, least, most = CASES[name]
    model = Constant(torch.ones(D, dtype=torch.float64))
    task = constant_task(outliers, samples=1)
    taken = allocated(lambda: measure(model, full_masks(model), task)) / (8 * D)
    # the net's copies, its graph and the results are 20 to 30 vectors more
    assert least < taken < most + 35
    bound = 8 * D * most
    with pytest.raises(ValueError, match="of Lanczos vectors.*fewer steps or probes") as error:
        measure(model, full_masks(model), replace(task, memory=bound))
    suggested = float(str(error.value).partition("set env.memory_gb=")[2].split()[0])
    assert bound < suggested * GIB < 1.5 * bound
    measure(model, full_masks(model), replace(task, memory=suggested * GIB))


SMALL = ("dataset=digits", "model=mlp", "model.hidden=[16]", "train_fraction=0.1")
SMALL += ("train.scale=0.0125",)
MEASURED = (
    "method=imc density=0.3",
    "method=wstar portrait=ritz",
    "method=wstar portrait=lipschitz",
    "method=dense portrait=curvature",
    "method=magnitude density=0.3 portrait=criteria",
    "method=sr_popup density=0.3 portrait=distortion",
    "method=sr_popup density=0.3 method.search.init.criterion=grasp",
    "method=flow_prune density=0.3 method.measure=loss",
    "method=obd density=0.3",
    "method=snip density=0.3 portrait=scores",
)


@pytest.mark.parametrize("line", MEASURED)
def test_every_measurement_that_differentiates_keeps_the_bound(line: str, tmp_path: Path) -> None:
    run = compose_run(*SMALL, *line.split())
    with pytest.raises(ValueError, match=r"env\.memory_gb=1e-09 is not enough"):
        perform_run(run, replace(machine(tmp_path), memory_gb=1e-9))
