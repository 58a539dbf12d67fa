"""The stage that loads weights from elsewhere in place of a training.

It tests the network once and stores an artefact like a training's.
"""

import time

import torch

from pruners.base import Finding, apply_masks, full_masks
from runner.engine.checkpoint import cpu_state
from runner.engine.context import RunContext
from runner.engine.divergence import infinite_loss
from runner.engine.evaluate import evaluate
from runner.engine.given_masks import fitting_masks
from runner.engine.pretrained import fitting, masks_beside
from runner.engine.stage_checks import untrained
from runner.engine.store import Artefact
from runner.spec.findings import ACCURACY, LOSS, ORIGIN, RENAMED, TOP5
from runner.spec.run import Stage


def load(context: RunContext, stage: Stage) -> Artefact:
    """An artefact with the loaded weights and full masks, and 0 trained epochs.

    Its findings are the weights' origin and the network's results on the test images.

    Raises:
        ConfigError: the weights can no longer be read, or do not fit.
        FloatingPointError: the network's test loss is not finite.
    """
    assert stage.weights is not None
    started = time.monotonic()
    model = context.fresh_model()
    fitted = fitting(stage.weights, model.state_dict(), context.run)
    model.load_state_dict(fitted.state)
    if file := masks_beside(stage.weights, context.run):  # they are part of the network
        given = fitting_masks(file, model, context.run).masks
        apply_masks(model, {name: m.to(context.machine.device) for name, m in given.items()})
    test, _ = context.held_out()
    found = evaluate(model, test(), {}, torch.autocast(context.machine.device.type, enabled=False))
    if what := infinite_loss(None, found, None):
        raise FloatingPointError(f"{what}: the outputs of the loaded network overflow")
    report: dict[str, Finding] = {
        ORIGIN: stage.weights.content,
        ACCURACY: found.accuracy,
        TOP5: found.top5,
        LOSS: found.loss,
    }
    if fitted.renamed is not None:
        report[RENAMED] = fitted.renamed
    return Artefact(
        weights=cpu_state(model),
        masks=full_masks(model),
        meta=untrained(report, started),
    )
