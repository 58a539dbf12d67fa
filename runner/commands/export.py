"""`winnow export RUN`: write a finished run's network and masks for plain PyTorch."""

import argparse
from collections.abc import Sequence

from runner.config.build import parse_run
from runner.config.environment import environment
from runner.engine.ticket import Point, load_ticket
from runner.engine.ticket_files import FORMATS, Ticket
from runner.errors import ConfigError
from runner.files import write_bytes
from runner.paths import user_path
from runner.records.find import run_in
from runner.spec.record import Record
from runner.spec.request import Environment

FOLDER = "exports"  # of the results
AT = {
    "end": "the trained network",
    "rewind": "the weights from which the last training began",
    "init": "the initial weights",
}


def main(argv: Sequence[str]) -> int:
    """Write the file of one run and a README beside it, and print the folder.

    Raises:
        ConfigError: an invalid argument, or the run has no network, or its weights are lost.
    """
    wanted, settings = _parser().parse_known_args(_flags(argv))
    if wrong := [word for word in settings if not word.startswith("env.")]:
        raise ConfigError(f"{wrong[0]} is no option of export: {' '.join(OPTIONS)} env.KEY=VALUE")
    env = environment(settings)
    ticket, record = _ticket(wanted.run, wanted.at, env)
    form = FORMATS[wanted.format]
    root = wanted.out or env.results_dir / FOLDER
    folder = root / f"{record['run_id']}-{wanted.at}-{wanted.format}"
    try:
        write_bytes(folder / form.file, form.write(ticket))
        write_bytes(folder / "README.md", _readme(ticket, record, form.lines).encode())
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error
    print(f"{folder / form.file}\n{folder / 'README.md'}: how to load it")
    return 0


OPTIONS = ("--format", "--at", "--out")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="winnow export",
        description="Write a finished run's network and masks for plain PyTorch, with a README.",
        epilog="Options can also be written as at=init. env.results_dir=DIR and env.cache_dir=DIR"
        " say where the run is. docs/methods/given.md: how to read the files back.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's id: its folder in results/runs")
    kinds = "safetensors: weights and masks; torch: {'state_dict', 'mask'}; prune: the names of"
    kinds += " torch.nn.utils.prune; pt2: the masked network by torch.export"
    parser.add_argument("--format", choices=[*FORMATS], default="safetensors", help=kinds)
    points = "; ".join(f"{point}: {what}" for point, what in AT.items())
    parser.add_argument("--at", choices=[*AT], default="end", help=points)
    parser.add_argument("--out", type=user_path, help=f"folder (default: {FOLDER} of the results)")
    return parser


def _flags(argv: Sequence[str]) -> list[str]:
    """The words, with `at=init` as `--at=init`."""
    keys = {option[2:] for option in OPTIONS}
    return [f"--{word}" if word.partition("=")[0] in keys else word for word in argv]


def _ticket(run_id: str, at: Point, env: Environment) -> tuple[Ticket, Record]:
    """The network of a run, and the run's record.

    Raises:
        ConfigError: there is no such finished run, or no network of it.
    """
    try:
        model, masks = load_ticket(run_id, env.results_dir, env.cache_dir, at)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    stored = run_in([env.results_dir], run_id)
    assert stored is not None  # load_ticket has read it
    info = parse_run(stored.config).dataset.info()
    about = {"run_id": run_id, "at": at, "by": "winnow export"}
    return Ticket(model, masks, (info.channels, info.size, info.size), about), stored.record


def _readme(ticket: Ticket, record: Record, lines: str) -> str:
    """What the file contains, and the code that loads it."""
    kept, prunable, at = record["kept"], record["prunable"], ticket.about["at"]
    tested = at == "end" and record["accuracy"] is not None
    accuracy = f", test accuracy {record['accuracy']:.2f} %" if tested else ""
    assert kept is not None and prunable  # of a run with a network
    shape = "x".join(map(str, ticket.image))
    form = f", model.widest={record['narrowed']['widest']}," if "narrowed" in record else ""
    return f"""\
# {record["run_id"]}, {AT[at]}

model={record["model"]}{form} for {shape} images of dataset={record["dataset"]}, {record["label"]}:
{kept:,} of {prunable:,} prunable weights are kept (density {kept / prunable:.4g}){accuracy}.
Pixels are normalised as Winnow's docs/data_sets.md states. `model` is your network, whose layers
have the names of the file:

```python
{lines}```
"""
