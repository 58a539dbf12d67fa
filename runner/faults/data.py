"""Damaged files of a data set, then a run that reads them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from runner.data.mnist import DEBIAN, FashionMnist
from runner.faults.cases import Stock, discard
from runner.faults.damage import DAMAGES
from runner.faults.damages import named
from runner.faults.kills import judged
from runner.faults.kind import Unavailable
from runner.faults.lab import run, typed
from runner.faults.trial import Trial

OWN = (f"dataset={FashionMnist.name}", "train_fraction=0.002")  # 120 training images


@dataclass(frozen=True)
class DataDamage:
    """A file of a data set is damaged. Another intact copy may be read instead."""

    name: ClassVar[str] = "data"
    title: ClassVar[str] = "damaged files of a data set, then a run"
    planned: ClassVar[int] = 30

    def trials(self, stock: Stock, rng: Random) -> Iterator[Trial]:
        """A trial for each damage.

        Raises:
            Unavailable: the files are not on this machine.
        """
        if not DEBIAN.is_dir():
            raise Unavailable(f"{DEBIAN} is missing (apt-get install dataset-fashion-mnist)")
        while True:
            case = stock.draw(rng).but(*OWN)
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
