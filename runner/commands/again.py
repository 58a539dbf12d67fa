"""`python run.py --again RUN`: perform a finished run again, from its own configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.commands.run import plan
from runner.config.build import build_plain
from runner.config.compose import compose_config
from runner.config.environment import environment_of
from runner.config.overrides import SEARCH, with_search_path
from runner.config.plain import parse_plain, to_plain
from runner.config.quoting import literal_paths
from runner.engine.execute import execute
from runner.errors import ConfigError, nearest
from runner.records.find import finished_runs, results_roots, run_in
from runner.records.stored import StoredRun
from runner.spec.identity import run_id
from runner.spec.request import RunRequest, SavedConfig
from runner.spec.run import Run

RUNS = "runs"  # the folder of runs in a results directory
FLAG = "--again"  # also in run.py, which imports nothing at its top
OF_MACHINE = ("env", "logger")  # the parts of a configuration that no identity contains


def again(words: list[str]) -> int:
    """Perform a run with the configuration of its record; the exit code.

    The record is one of `env.results_dir`, a published one, or the one in the given folder. A run
    that `env.results_dir` has already is not repeated: another `env.results_dir` and
    `env.cache_dir` measure it anew. Threads are as many as then.

    Args:
        words: `--again`, a run id or the path of a run's folder, and settings of this machine
            (`env.*`, `logger`); the folder of the user's own parts (`--config-dir`) that it has.

    Raises:
        ConfigError: another word, an unknown run, or one of another version of the code.
    """
    named, settings = _read(words)
    cfg = compose_config(literal_paths(settings))
    wanted, roots = _searched(named, environment_of(cfg).results_dir)
    stored = _stored(wanted, roots)
    if cfg.env.threads is None:  # with another number of threads the last bits differ
        cfg.env.threads = stored.record["provenance"]["threads"]
    machine = {key: to_plain(cfg, resolve=True)[key] for key in OF_MACHINE}
    values = {**parse_plain(stored.config, resolve=True), **machine}
    request = RunRequest(
        run=_run(wanted, values),
        environment=environment_of(cfg),
        config=SavedConfig(OmegaConf.to_yaml(OmegaConf.create(values)), values),
        overrides=(),
        highlights=tuple(values["method"].get("highlights", ())),
        paper_command=None,
    )
    return plan(request) if request.environment.plan else execute(request)


def _read(words: list[str]) -> tuple[str, list[str]]:
    """The run id and the settings of the machine."""
    words = with_search_path(words)
    place = words.index(FLAG)
    wanted = words[place + 1 : place + 2]
    others = [*words[:place], *words[place + 2 :]]
    settings = [
        each
        for each in others
        if each.partition("=")[0].split(".")[0] in OF_MACHINE or each.startswith(f"{SEARCH}=")
    ]
    if not wanted or "=" in wanted[0] or wanted[0].startswith("-"):
        raise ConfigError(f"{FLAG} needs the id of a finished run: {FLAG} RUN_ID")
    if unread := [each for each in others if each not in settings]:
        raise ConfigError(
            f"{' '.join(unread)}: {FLAG} repeats a run as it was, so only env.* and logger can be"
            " set beside it"
        )
    return wanted[0], settings


def _searched(named: str, results_dir: Path) -> tuple[str, list[Path]]:
    """The run id, and the results directories to search for it."""
    path = Path(named)
    if len(path.parts) == 1:
        return named, results_roots(results_dir)
    if path.parent.name != RUNS:
        raise ConfigError(
            f"{FLAG} {named}: a path must be that of a run's folder: RESULTS/{RUNS}/RUN_ID"
        )
    return path.name, [path.parent.parent]


def _stored(wanted: str, roots: Sequence[Path]) -> StoredRun:
    """What is stored about the run.

    Raises:
        ConfigError: there is no such finished run, or it has no configuration.
    """
    found = run_in(roots, wanted)
    if found is None:
        known = [name for root in roots for name in finished_runs(root)]
        where = (
            "neither {} nor the published records have" if len(roots) > 1 else "{} does not have"
        )
        raise ConfigError(
            f"{FLAG} {wanted}: {where.format(roots[0])} this run{nearest(wanted, known)}"
        )
    if not found.config:
        raise ConfigError(f"{FLAG} {wanted}: its configuration (config.yaml) is not stored")
    return found


def _run(wanted: str, values: Mapping[str, Any]) -> Run:
    """The run that the configuration describes.

    Raises:
        ConfigError: this code reads another run from it, or none.
    """
    other = f"{FLAG} {wanted}: another version of the code wrote its configuration"
    try:
        run = build_plain(dict(values), finished=True)
    except (KeyError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{other}: {reason}; use the code of its record's git_sha") from error
    if (identity := run_id(run)) != wanted:
        raise ConfigError(
            f"{other}, which is {identity} with this one; use the code of its record's git_sha"
        )
    return run
