"""Made files of masks, for methods that read one."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Generator

from pruners.base import Masks, full_masks, keep_count
from runner.config.compose import Composer
from runner.config.instantiate import construct
from runner.config.interpolation import resolve
from runner.config.plain import Plain
from runner.config.repeat import files_read


def file_words(
    words: Sequence[str], folder: Path, density: float, composer: Composer
) -> tuple[str, ...]:
    """Overrides that name made files of masks: one for each option of the method that names a file.

    The masks fit the network of the command line, and keep a random part of its weights.

    Args:
        words: the overrides of a command line, with its method.
        folder: where the files are written.
        density: of the masks, attained exactly.
    """
    raw = composer.plain(list(words))
    keys = files_read(raw["method"]["stages"])
    if not keys:
        return ()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"masks-{density:g}.safetensors"
    save_file(random_masks(raw, density), path)
    return tuple(f"{key}={path}" for key in keys)


def random_masks(raw: Plain, density: float) -> Masks:
    """Masks of the network that a configuration describes, uniformly random."""
    values = resolve(raw).values
    info = construct(values["dataset"], "dataset").info()
    model = construct(values["model"], "model")
    whole = full_masks(model(info.channels, info.classes, info.size, Generator()))
    sizes = [mask.numel() for mask in whole.values()]
    kept = torch.zeros(sum(sizes), dtype=torch.bool)
    order = torch.randperm(len(kept), generator=Generator().manual_seed(0))
    kept[order[: keep_count(density, len(kept))]] = True
    parts = torch.split(kept, sizes)
    return {n: p.view_as(whole[n]).clone() for n, p in zip(whole, parts, strict=True)}
