"""The predictions of a finished run on the test images: `env.save_predictions=true`."""

from collections.abc import Sequence

import torch

from runner.engine.context import RunContext
from runner.engine.stage_meta import DoneStage
from runner.records.predictions import LABELS, PREDICTIONS

CLOSE = 1e-9  # percent


@torch.no_grad()
def predictions(context: RunContext, stages: Sequence[DoneStage]) -> dict[str, list[int]]:
    """The classes of the test images, and those that the network of the record's accuracy predicts.

    They are computed again from the stored weights. If they do not have the record's accuracy, as
    on another kind of device, a warning states both. {} if the record has no accuracy.

    Args:
        stages: metadata of each stage, with `name`.
    """
    trained = [meta for meta in stages if meta["history"]]
    accuracy = trained[-1]["history"][-1]["accuracy"] if trained else None
    if accuracy is None:
        return {}
    stage = context.run.stage(trained[-1]["name"])
    assert stage.recipe is not None
    model = context.fresh_model()
    model.load_state_dict(context.store.load(context.keys[stage.name]).weights)
    model.eval()
    bf16, kind = stage.recipe.precision == "bf16", context.machine.device.type
    labels, found = [], []
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16):
        for x, y in context.held_out()[0]():
            logits = model(x).float()
            found.append(logits.topk(min(5, logits.shape[1]), dim=1).indices[:, 0].cpu())
            labels.append(y.cpu())
    truth, guess = torch.cat(labels), torch.cat(found)
    share = 100 * float((truth == guess).double().mean())
    if abs(share - accuracy) > CLOSE and context.machine.group.first:
        context.watcher.warn(
            f"the saved predictions have an accuracy of {share:.2f} %, the record {accuracy:.2f} %:"
            " they were computed on another kind of device, or with other threads or versions"
        )
    return {LABELS: truth.tolist(), PREDICTIONS: guess.tolist()}
