"""Damaged files of data sets, then a run that reads them."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from runner.data import cifar
from runner.data.base import Info
from runner.data.cifar import Cifar10, Cifar100
from runner.data.cifar_batches import Layout
from runner.data.imagenet import Imagenet
from runner.data.mnist import DEBIAN, FashionMnist
from runner.data.tiny_imagenet import TinyImagenet
from runner.faults.cases import Case, Home, Stock, discard
from runner.faults.damage import DAMAGES, Damage, Delete, Empty, Folder, Truncate
from runner.faults.damages import named
from runner.faults.kills import judged
from runner.faults.kind import Part, Unavailable
from runner.faults.lab import call, command, run, typed
from runner.faults.made import CifarForm, write_cifar, write_image_folder, write_tiny_imagenet
from runner.faults.trial import Ended, Trial
from runner.registry import find_class

OWN = (f"dataset={FashionMnist.name}", "train_fraction=0.002")  # 120 training images
IMAGES = (".jpeg", ".png")  # no checksums of single images are published
SEEN: Sequence[Damage] = (Truncate(), Empty(), Delete(), Folder())  # what any reader can see
WNIDS = tuple(f"n{i:02}000000" for i in range(10))
EACH, TEST = 12, 3  # made images of a class


@dataclass(frozen=True)
class DataDamage:
    """A file of Fashion-MNIST is damaged. Another intact copy may be read instead."""

    name: ClassVar[str] = "data"
    title: ClassVar[str] = "damaged files of Fashion-MNIST, then a run"
    planned: ClassVar[int] = 30

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each damage.

        Raises:
            Unavailable: the files are not on this machine.
        """
        if not DEBIAN.is_dir():
            raise Unavailable(f"{DEBIAN} is missing (apt-get install dataset-fashion-mnist)")
        while True:
            while (drawn := stock.draw(rng)).reads_masks:
                pass
            case = drawn.but(*OWN)
            alone, home = stock.alone(case), stock.empty()
            folder = home.folder / "data" / FashionMnist.folder
            shutil.copytree(DEBIAN, folder)
            file, *others = rng.sample(sorted(folder.iterdir()), 2)
            how = rng.choice(DAMAGES).apply(file, rng, others[0])
            ended = run([*case.words, *home.words], home.folder)
            verdict, message = judged(ended, home, {alone.identity: alone.record})
            verdict = named(verdict, ended, (file.name,))
            yield Trial(self.title, f"{file.name} {how}", verdict, typed(case.words), message)
            discard(home)


@dataclass(frozen=True)
class Small:
    """A data set of few made images, which the reader of the whole one reads.

    Args:
        name: of the whole data set.
        folder: of the files, inside the folder of all data sets.
        info: shape and counts of the made images.
        write: writes the files; returns their checksums where checksums are published.
        words: further options.
    """

    name: str
    folder: str
    info: Info
    write: Callable[[Path], Layout | None]
    words: tuple[str, ...] = ()

    def run(self, case: Case, home: Home, layout: Layout | None) -> Ended:
        """Run a case on the files of a home."""
        words = [*case.words, *home.words]
        return call(run_small, (self.name, self.info, layout, words), home.folder).wait()


def run_small(name: str, info: Info, layout: Layout | None, words: list[str]) -> None:
    """The command on a data set whose official counts and checksums are those of made files.

    It changes the classes of this process, which ends with the command.
    """
    component: Any = find_class(name)
    component.native = info
    if layout is not None:
        found: Layout = layout
        cifar.published = lambda source, labels_key: found
    command(words)


def _cifar(labels: str, names: str, meta: str, batches: int) -> Callable[[Path], Layout]:
    files = [f"data_batch_{i + 1}" for i in range(batches)] if batches > 1 else ["train"]
    train = dict.fromkeys(files, EACH * len(WNIDS) // batches)
    test = {"test_batch" if batches > 1 else "test": TEST * len(WNIDS)}
    form = CifarForm(train, test, meta, names, labels, WNIDS)
    return lambda folder: write_cifar(folder, form)


def _tiny(folder: Path) -> None:
    write_tiny_imagenet(folder, WNIDS, EACH, TEST)


def _image_folder(folder: Path) -> None:
    write_image_folder(folder, dict.fromkeys(WNIDS, EACH), dict.fromkeys(WNIDS, TEST))


def _info(size: int) -> Info:
    classes = len(WNIDS)
    return Info(3, size, classes, train=EACH * classes, test=TEST * classes)


SMALL = (
    Small(
        Cifar10.name,
        Cifar10.folder,
        _info(32),
        _cifar("labels", "label_names", "batches.meta", batches=5),
    ),
    Small(
        Cifar100.name,
        Cifar100.folder,
        _info(32),
        _cifar("fine_labels", "fine_label_names", "meta", batches=1),
    ),
    Small(TinyImagenet.name, TinyImagenet.folder, _info(16), _tiny),
    Small(
        Imagenet.name,
        Imagenet.folder,
        _info(224),
        _image_folder,
        ("dataset.size=16", "env.workers=0"),
    ),
)


@dataclass(frozen=True)
class FormatDamage:
    """A file of a made data set is damaged: before the first run, or what the first run kept.

    Damage to an image that still decodes to another picture is not tried: no checksums of single
    images are published, so that no reader can tell.
    """

    name: ClassVar[str] = "formats"
    title: ClassVar[str] = "damaged files in the formats of CIFAR, Tiny-ImageNet and ImageNet"
    planned: ClassVar[int] = 80

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each damage."""
        made = {small.name: _undisturbed(stock, small) for small in SMALL}
        while True:
            for small in SMALL:
                case, alone, layout = made[small.name]
                wanted, home = alone.records(), stock.empty()
                shutil.copytree(alone.folder / "data", home.folder / "data")
                data = home.folder / "data"
                if rng.random() < 0.5:  # as before the first run
                    for path in data.iterdir():
                        if path.is_file():
                            path.unlink()
                files = [path for path in sorted(data.rglob("*")) if path.is_file()]
                # every list and every kept file as often as all images together
                images = [path for path in files if path.suffix.lower() in IMAGES]
                others = [path for path in files if path not in images]
                pool = images if images and rng.random() < 0.5 else others or images
                file, other = rng.choice(pool), rng.choice(pool)
                how = rng.choice(SEEN if pool is images else DAMAGES).apply(file, rng, other)
                ended = small.run(case, home, layout)
                verdict, message = judged(ended, home, wanted)
                verdict = named(verdict, ended, (file.name,))
                what = f"{file.relative_to(data)} {how}"
                yield Trial(self.title, what, verdict, typed(case.words), message)
                discard(home)


def _undisturbed(stock: Stock, small: Small) -> tuple[Case, Home, Layout | None]:
    """A case, the folders of its run on intact files, and the files' checksums."""
    for each in stock.often:  # some methods need more images than there are
        case = each.but(f"dataset={small.name}", *small.words)
        home = stock.empty()
        layout = small.write(home.folder / "data" / small.folder)
        ended = small.run(case, home, layout)
        if ended.code == 0 and len(home.records()) == 1:
            return case, home, layout
    raise RuntimeError(f"no run on a made {small.name}: {ended.output}")
