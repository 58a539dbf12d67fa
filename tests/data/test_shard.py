"""Several readers of a batch read each image once, and together what one reader would read."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from support import compose_run, machine
from torch import Generator, Tensor

from runner.data.augment import ResizedCrop
from runner.data.base import Data, Images, Split
from runner.data.batches import Batch, Batches, FreshBatches, evaluation_batches
from runner.data.files import Files
from runner.data.shard import Shard
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.distributed import ProcessGroup
from runner.engine.store import Store

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
IMAGES, BATCH = 15, 7  # the last batch has one image
SIZES = (1, 2, 3)


class CountedFiles(Files):
    """Files that count how often each is decoded."""

    seen: Counter[str] = Counter()

    def _image(self, path: Path, draws: Tensor | None, crop: ResizedCrop | None) -> Tensor:
        self.seen[path.name] += 1
        return super()._image(path, draws, crop)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CountedFiles:
    """Small noise images of different sizes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.RandomState(0)
    names = [f"{i:02}.JPEG" for i in range(IMAGES)]
    for i, name in enumerate(names):
        Image.fromarray(rng.randint(256, size=(20 + i, 30, 3), dtype=np.uint8)).save(folder / name)
    coded = np.array([name.encode() for name in names])
    return CountedFiles(folder, coded, torch.arange(IMAGES) % 3, 16)


@pytest.fixture
def arrays() -> Split:
    rng = Generator().manual_seed(0)
    pixels = torch.randint(256, (IMAGES, 3, 16, 16), generator=rng, dtype=torch.uint8)
    return Split(pixels, torch.arange(IMAGES) % 3)


def joined(readers: list[list[Batch]]) -> list[Batch]:
    """The parts of each batch, one after another."""
    return [
        (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))
        for parts in zip(*readers, strict=True)
    ]


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    return all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(ours, theirs, strict=True)
    )


@given(st.integers(0, 40), st.integers(1, 8))
def test_the_parts_of_a_batch_are_the_batch_and_equally_large(count: int, size: int) -> None:
    parts = [Shard(rank, size).of(torch.arange(count)) for rank in range(size)]
    assert torch.cat(parts).tolist() == list(range(count))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["files", "arrays"])
def test_readers_together_have_the_batches_of_one(
    kind: str, size: int, request: pytest.FixtureRequest
) -> None:
    split: Images = request.getfixturevalue(kind)
    augment = "resized_crop" if kind == "files" else "crop_flip"
    whole = Batches(split, MEAN, STD, 255.0, BATCH, augment, 0, "dense")
    readers = [replace(whole, shard=Shard(rank, size)) for rank in range(size)]
    assert same(joined([list(each.epoch(2)) for each in readers]), list(whole.epoch(2)))
    assert same(joined([list(each.epoch(2, 1)) for each in readers]), list(whole.epoch(2))[1:])
    assert [whole.images(step) for step in range(3)] == [7, 7, 1]
    tests = [list(evaluation_batches(split, MEAN, STD, 255.0, 4, each.shard)) for each in readers]
    assert same(joined(tests), list(evaluation_batches(split, MEAN, STD, 255.0, 4)))


@pytest.mark.parametrize("size", SIZES)
def test_readers_of_fresh_noise_together_have_the_batches_of_one(size: int) -> None:
    def draw(images: int, rng: Generator) -> Batch:
        return torch.randn(images, 3, 4, 4, generator=rng), torch.arange(images)

    whole = FreshBatches(draw, torch.device("cpu"), IMAGES, BATCH, 0, "dense")
    readers = [replace(whole, shard=Shard(rank, size)) for rank in range(size)]
    assert same(joined([list(each.epoch(1)) for each in readers]), list(whole.epoch(1)))
    assert [whole.images(step) for step in range(3)] == [7, 7, 1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", SIZES)
def test_the_processes_of_a_run_decode_each_image_once_in_an_epoch(
    size: int, workers: int, files: CountedFiles, tmp_path: Path
) -> None:
    run = compose_run("dataset=digits", "method=dense", f"train.batch_size={BATCH}")
    test = files.take(torch.arange(5))
    data = Data("files", files, None, test, MEAN, STD, 255.0, 3, "resized_crop", "")
    watcher = Watcher(tmp_path / "run", display("none", Console()), {})
    labels = []
    CountedFiles.seen.clear()
    for rank in range(size):
        where = replace(machine(tmp_path), group=ProcessGroup(rank, size), workers=workers)
        context = RunContext(run, where, Store(tmp_path), watcher, loaded=data)
        loaders = context.loaders(run.stage("dense"))
        labels += [y for passed in (loaders.training.epoch(0), loaders.test()) for _, y in passed]
    training, held_out = ({name.decode(): 1 for name in part.names} for part in (files, test))
    assert CountedFiles.seen == Counter(training) + Counter(held_out)
    assert torch.cat(labels).bincount().tolist() == [5 + 2, 5 + 2, 5 + 1]
