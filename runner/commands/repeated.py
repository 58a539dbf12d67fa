"""The command of a finished run, repeated: its summary, without building the run.

Which run a command describes is a function of the code and its configuration files, of the composed
configuration, and of what the user typed. The cache keeps the result under the SHA-256 of all of
them, so that it cannot be out of date: after any change there is none. Runs that depend on further
files, on weights, masks, images or configuration of the user's own, are not kept. Building a run
imports torch and takes seconds; this does not. The record is read and verified as always.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.code import code_digest, own_digests
from runner.config.compose import compose_config
from runner.config.environment import environment_of, typed, typed_by_user
from runner.config.overrides import search_path
from runner.config.plain import to_plain
from runner.console import console
from runner.display.summary import Closing, closing_of, summary
from runner.errors import ConfigError, Damaged
from runner.files import sealed, unsealed, write_bytes
from runner.records.folders import RunFolders, record_path
from runner.records.wanted import Wanted
from runner.spec.found import Surveyed
from runner.spec.identity import run_id
from runner.spec.request import Environment, RunRequest
from runner.torchrun import ignored, ranks

FOLDER = "requests"  # of the cache
DEVICES = ("auto", "cpu")  # that need no check; others may be missing


def answer(words: Sequence[str], cfg: DictConfig | None = None) -> bool:
    """Print the summary of a finished run; whether its command is known and the run is done.

    Args:
        words: the overrides of the command line.
        cfg: their configuration, if it has been composed.
    """
    if ranks().size > 1 or ignored():
        return False
    with contextlib.suppress(ConfigError, OmegaConfBaseException):  # the run reports them
        cfg = compose_config(list(words)) if cfg is None else cfg
        env = environment_of(cfg)
        if not env.plan and env.device in DEVICES:
            return _answer(_path(cfg, typed(words), env), env)
    return False


def _answer(path: Path, env: Environment) -> bool:
    try:
        known = unsealed(path)
    except Damaged:
        return False
    run = RunFolders(env.results_dir).run(known["run_id"])
    wanted = Wanted(env.save_predictions, frozenset(known["wanted"]))
    if run is None or not wanted.complete(run):
        return False
    place = record_path(env.results_dir, run.run_id)
    text = summary(run.record, place, Closing(**known["closing"]), before=True)
    console().print(text, soft_wrap=True)
    return True


def remember(cfg: DictConfig, request: RunRequest) -> None:
    """Keep the identity of the finished run of this process, for `answer`.

    Args:
        cfg: its composed configuration.
    """
    env, words, run = request.environment, typed_by_user(), request.run
    own = any(stage.weights or stage.mask_file for stage in run.stages)
    if own or isinstance(run.dataset, Surveyed) or search_path(words):
        return
    wanted = Wanted.of(run, env.save_predictions)
    content = {
        "run_id": run_id(run),
        "wanted": sorted(wanted.stages),
        "closing": asdict(closing_of(request)),
    }
    with contextlib.suppress(OSError):  # nothing depends on it
        write_bytes(_path(cfg, words, env), sealed(content))


def _path(cfg: DictConfig, typed: tuple[str, ...], env: Environment) -> Path:
    """The file for a command of this code."""
    parts: list[Any] = [code_digest(), sys.version, typed, own_digests()]
    parts += [to_plain(cfg, resolve=False), OmegaConf.to_yaml(cfg, resolve=True)]
    text = json.dumps(parts, sort_keys=True, default=str)
    return env.cache_dir / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
