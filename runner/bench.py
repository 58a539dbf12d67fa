"""Speed, each time as a ratio against a rival or a limit measured in the same run, turn by turn: absolute times say little about another machine.

Rows: our training loop against the loop that a tutorial shows (a DataLoader that transforms image by image), and against its own limit (the bare steps on
one batch that is there already); bf16 against fp32; Hessian-vector products against PyHessian's and curvlinops'; every method that scores with data against
training steps on the same images; steps of every mask search against training steps of the same net; trials of theory experiments together against one
after another; expanding a table against composing each of its jobs. Below: planning and printing 29 tables over 10,000 records; peak memory of making masks and
of trials; what measuring a Hessian before pruning takes, in epochs; error and memory of a spectrum beside PyHessian's. The throughput of training is kept for
the estimates of `make plan`.
"""

import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from models.count import multiply_accumulates
from models.resnet_cifar import ResNetCifar
from pruners.base import GRADIENT, FixedMasking, full_masks
from pruners.hessian import HessianOperator, HessianOptions
from runner import bench_memory, bench_spectrum, bench_stages
from runner.bench_plan import composed, expanded, make_tables, measure
from runner.bench_scores import EXAMPLES, score_contests
from runner.bench_search import races
from runner.bench_trials import trial_contest, trial_memory
from runner.compose import compose_config
from runner.costs import BENCH, readable, save_bench
from runner.data.base import Split
from runner.data.batches import Batches
from runner.errors import ConfigError
from runner.machine import check_precision, device_name
from runner.optim import make_optimizer
from runner.rng import stream
from runner.spec import Recipe
from runner.train import Feeds, Session, train

BATCH = 128
RECORDS = 10_000
SPECTRUM_STEPS = 10
STAGE_ROUNDS = 3  # at most: each takes half a minute
IMAGES = ((8, 1, 10 * BATCH, "none"), (32, 3, 4 * BATCH, "crop_flip"))  # size, channels, images of an epoch, augmentation
MEAN, STD = torch.tensor([0.5]), torch.tensor([0.25])


@dataclass(frozen=True)
class Duel:
    """Two ways to do the same work; the ratio is the rival's time over ours, so that more is better."""

    work: str
    rival_is: str
    ours: Callable[[], object]
    rival: Callable[[], object]


def bench(arguments: list[str], console: Console) -> int:
    """Print every duel's ratio and what plans take; keep the throughput. Arguments: rounds=N (default 5), threads=N, env.cache_dir=DIR.

    Raises:
        ConfigError: another argument, or a value that is no whole number from 1 up.
    """
    options = {"rounds": 5, "threads": torch.get_num_threads()}
    env = [word for word in arguments if word.startswith("env.cache_dir=")]
    for word in arguments:
        key, _, value = word.partition("=")
        if word in env:
            continue
        if key not in options or not value.isdigit() or int(value) < 1:
            raise ConfigError(f"{word}: the bench takes rounds=N and threads=N, whole numbers from 1 up")
        options[key] = int(value)
    torch.set_num_threads(options["threads"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = Table(title=f"{device_name(device)}, {options['threads']} threads, {options['rounds']} rounds", title_justify="left")
    for column in ("work", "rival or limit", "times as fast", "all rounds"):
        table.add_column(column)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyHessian's and curvlinops' own
        for duel in track(list(all_duels(device)), "measuring", console=console, transient=True):
            ratios = run_duel(duel, options["rounds"])
            table.add_row(duel.work, duel.rival_is, f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}")
    console.print(table)
    _plans(console)
    _masks(console)
    _stages(device, min(options["rounds"], STAGE_ROUNDS), console)
    _spectrum(console)
    _keep_throughput(device, {1, options["threads"]}, Path(compose_config(env).env.cache_dir), console)
    return 0


def _plans(console: Console) -> None:
    """Time and memory of plans and tables over many records, in a process of their own."""
    with tempfile.TemporaryDirectory() as folder, console.status("planning"):
        make_tables(Path(folder), RECORDS)
        took = measure(Path(folder))
    console.print(
        f"29 tables (stand-ins) over {RECORDS:,} records: planned after {took.planned:.1f} s, printed after {took.printed:.1f} s, "
        f"{took.cpu:.1f} s of processor time, peak memory {readable(took.peak)}",
        soft_wrap=True,
    )


def _masks(console: Console) -> None:
    """Peak memory of making masks, in multiples of the network's weights."""
    with console.status("making masks"):
        ratios = list(bench_memory.measured())
    each = ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios)
    inputs, taken = trial_memory()
    console.print(f"trials of theory experiments on a CPU: {readable(inputs)} of inputs at a time, peak memory {readable(taken)}", soft_wrap=True)
    console.print(f"masks of VGG-19 (20 M weights, 3x32x32), peak memory beside the network in multiples of it: {each}", soft_wrap=True)


def _stages(device: torch.device, rounds: int, console: Console) -> None:
    """What comes before retraining where a Hessian is measured, in epochs."""
    trained = _images(2 * BATCH, 3, 32)
    for stages in bench_stages.methods():
        shown = _images(stages.spectrum.hessian.n_samples, 3, 32)
        x = ((shown.images.float() / 255 - MEAN[0]) / STD[0]).to(device, memory_format=torch.channels_last)
        with console.status(f"measuring stages of method={stages.method}"):
            epoch = _epoch(trained, "crop_flip", device)
            cost = bench_stages.stage_cost(stages, _net(3, 32, device), (x, shown.labels.to(device)), epoch, len(trained), rounds)
        console.print(str(cost), soft_wrap=True)


def _spectrum(console: Console) -> None:
    """Error and memory of our spectrum and of PyHessian's."""
    with console.status("estimating spectra"):
        said = list(bench_spectrum.lines(bench_spectrum.errors(), bench_spectrum.memory()))
    for line in said:
        console.print(line, soft_wrap=True)


def _keep_throughput(device: torch.device, threads: set[int], cache_dir: Path, console: Console) -> None:
    """Measure training and save it by number of threads: tables are run with one thread a job on CPUs."""
    for n in sorted(threads):
        torch.set_num_threads(n)
        rows = list(throughput(device))
        save_bench(cache_dir, device_name(device), n, rows)
        for row in rows:
            console.print(f"{n} thread(s), {row['work']}: {row['images_per_s']:,.0f} images/s, {row['macs_per_s']:.3g} multiply-accumulates/s", soft_wrap=True)
    console.print(f"kept for make plan in {cache_dir / BENCH}")


def throughput(device: torch.device, rounds: int = 3) -> Iterator[dict[str, Any]]:
    """Images and multiply-accumulates per second of training, the median of some epochs."""
    for size, channels, images, augment in IMAGES:
        data, forward = _images(images, channels, size), multiply_accumulates(_net(channels, size, device), (channels, size, size))[0]
        for precision in ("fp32", *(["bf16"] if _has_bf16(device) else [])):
            work = _epoch(data, augment, device, precision)
            speed = images / statistics.median([_seconds(work) for _ in range(rounds + 1)][1:])
            about = {"work": f"ResNet-20, {channels}x{size}x{size}, {precision}", "precision": precision, "macs_per_image": forward}
            yield {**about, "images_per_s": speed, "macs_per_s": speed * forward * GRADIENT}


def run_duel(duel: Duel, rounds: int) -> list[float]:
    """Rival's seconds / ours for each round; who begins alternates, one round before goes uncounted."""
    ratios = []
    for i in range(rounds + 1):
        order = (duel.ours, duel.rival) if i % 2 else (duel.rival, duel.ours)
        seconds = {work: _seconds(work) for work in order}
        ratios.append(seconds[duel.rival] / seconds[duel.ours])
    return ratios[1:]


def all_duels(device: torch.device) -> Iterator[Duel]:
    """Every row of the table, in order. Images are random: values do not change the work."""
    for size, channels, images, augment in IMAGES:
        data = _images(images, channels, size)
        work = f"an epoch of ResNet-20, {channels}x{size}x{size}"
        epoch = _epoch(data, augment, device)
        yield Duel(work, "a DataLoader's, image by image", epoch, _textbook_epoch(data, augment, device))
        yield Duel(work, "limit: its bare steps on one batch", epoch, _bare_steps(data, device))
        if _has_bf16(device):
            yield Duel(f"{work}, bf16", "the same in fp32", _epoch(data, augment, device, "bf16"), epoch)
    yield from _hessian_duels(device)
    data = _images(EXAMPLES, 3, 32)
    x = ((data.images.float() / 255 - MEAN[0]) / STD[0]).to(device, memory_format=torch.channels_last)
    for contest in score_contests(_net(3, 32, device), (x, data.labels.to(device))):
        yield Duel(contest.work, contest.limit, contest.prune, contest.steps)
    for race in races(device):
        yield Duel(race.work, race.limit, race.search, race.steps)
    contest = trial_contest(device)
    yield Duel(contest.work, contest.limit, contest.prune, contest.steps)
    yield Duel("expanding 25 jobs of a table", "a Hydra composition for each", expanded, composed)


def _hessian_duels(device: torch.device) -> Iterator[Duel]:
    """One product with the Hessian over 512 images; all three agree to rounding (tests/pruners/test_hessian.py)."""
    model = _net(1, 8, device)
    batches = [(x.to(device), y.to(device)) for x, y in _pairs(_images(512, 1, 8))]
    masks, options = full_masks(model), HessianOptions(batch_size=BATCH)
    ours = HessianOperator(model, masks, batches, F.cross_entropy, options)
    everything = HessianOperator(model, masks, batches, F.cross_entropy, HessianOptions(batch_size=BATCH, params="all"))
    v, w = torch.randn(ours.dimension, device=device), torch.randn(everything.dimension, device=device)
    work = "a Hessian-vector product, ResNet-20, 512 x 1x8x8"
    yield Duel(work, "curvlinops'", lambda: ours.matvec(v), _curvlinops_product(model, list(masks), batches, v))
    if not bench_spectrum.has_pyhessian():
        return  # bench_spectrum.lines says so
    yield Duel(work, "PyHessian's (over all parameters)", lambda: ours.matvec(v), _pyhessian_product(model, batches))
    yield Duel(f"{work}, all parameters", "PyHessian's", lambda: everything.matvec(w), _pyhessian_product(model, batches))
    whole = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]  # PyHessian's faster way: it keeps the graph of a single batch
    steps, spectra = SPECTRUM_STEPS, (bench_spectrum.ours, bench_spectrum.theirs)
    mine, rival = (lambda f=f, b=b: f(model, b, steps, 1) for f, b in zip(spectra, (batches, whole), strict=True))
    yield Duel(f"a spectrum of {steps} products, all else as before", "PyHessian's (density, with linalg.eigh for torch.eig)", mine, rival)


def _pyhessian_product(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Callable[[], object]:
    from pyhessian import hessian

    theirs = hessian(copy.deepcopy(model), F.cross_entropy, dataloader=batches, cuda=batches[0][0].is_cuda)
    direction = [torch.randn_like(p) for p in theirs.params]
    return lambda: theirs.dataloader_hv_product(direction)


def _curvlinops_product(model: nn.Module, names: list[str], batches: list[tuple[Tensor, Tensor]], v: Tensor) -> Callable[[], object]:
    from curvlinops import HessianLinearOperator

    net = copy.deepcopy(model).eval()
    parameters = [p for name, p in net.named_parameters() if name in names]
    operator = HessianLinearOperator(net, nn.CrossEntropyLoss(), parameters, batches, check_deterministic=False)
    return lambda: operator @ v


def _net(channels: int, size: int, device: torch.device) -> nn.Module:
    net = ResNetCifar("resnet20", depth=20, width=16)(channels, 10, size, stream(0, "bench", "weights"))
    return net.to(memory_format=torch.channels_last).to(device)


def _images(count: int, channels: int, size: int) -> Split:
    rng = stream(0, "bench", "images")
    return Split(torch.randint(256, (count, channels, size, size), generator=rng, dtype=torch.uint8), torch.randint(10, (count,), generator=rng))


def _pairs(data: Split) -> list[tuple[Tensor, Tensor]]:
    x = (data.images.float() / 255 - MEAN[0]) / STD[0]
    return list(zip(x.split(BATCH), data.labels.split(BATCH), strict=True))


def _epoch(data: Split, augment: str, device: torch.device, precision: str = "fp32") -> Callable[[], object]:
    """One epoch of the training loop that every run uses; nothing is evaluated, which the rivals do not do either."""
    channels, size = data.images.shape[1], data.images.shape[2]
    model, recipe = _net(channels, size, device), Recipe(epochs=1, lr=0.1, batch_size=BATCH, momentum=0.9, weight_decay=5e-4, precision=precision)
    mean, std = MEAN.repeat(channels).to(device), STD.repeat(channels).to(device)
    nothing = Feeds(Batches(data.to(device), mean, std, 255.0, BATCH, augment, 0, "bench"), lambda: _pairs(Split(data.images[:1], data.labels[:1]).to(device)))
    return lambda: train(model, FixedMasking(full_masks(model)), recipe, nothing, F.cross_entropy, Session())


def _bare_steps(data: Split, device: torch.device) -> Callable[[], object]:
    """Forward, backward, step; no data, no hooks, no bookkeeping."""
    channels, size = data.images.shape[1], data.images.shape[2]
    model, recipe = _net(channels, size, device), Recipe(epochs=1, lr=0.1, batch_size=BATCH, momentum=0.9, weight_decay=5e-4)
    opt = make_optimizer(model, FixedMasking({}), recipe)
    x, y = _pairs(data)[0]
    x, y = x.to(device, memory_format=torch.channels_last), y.to(device)

    def work() -> None:
        model.train()
        for _ in range(len(data) // BATCH):
            F.cross_entropy(model(x), y).backward()
            opt.step()
            opt.zero_grad()

    return work


class _PerImage(TensorDataset):
    """What published code does: each image is cropped, mirrored and normalised on its own."""

    augment = "none"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        if self.augment == "crop_flip":
            top, left = np.random.randint(9, size=2)
            image = F.pad(image, (4,) * 4)[:, top : top + image.shape[1], left : left + image.shape[2]]
            image = image.flip(-1) if np.random.rand() < 0.5 else image
        return (image.float() / 255 - MEAN[0]) / STD[0], label


def _textbook_epoch(data: Split, augment: str, device: torch.device) -> Callable[[], object]:
    """The loop of PyTorch's tutorials, single process, memory in PyTorch's default format."""
    channels, size = data.images.shape[1], data.images.shape[2]
    model = _net(channels, size, device).to(memory_format=torch.contiguous_format)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    images = _PerImage(data.images, data.labels)
    images.augment = augment
    loader = DataLoader(images, batch_size=BATCH, shuffle=True)

    def work() -> None:
        model.train()
        running = 0.0
        for x, y in loader:
            opt.zero_grad()
            loss = F.cross_entropy(model(x.to(device)), y.to(device))
            loss.backward()
            opt.step()
            running += loss.item()

    return work


def _has_bf16(device: torch.device) -> bool:
    try:
        check_precision("bf16", device)
    except ConfigError:
        return False
    return True


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun
