"""Convert the identities of records and caches from before components had tags.

Formerly, the hash contained a component's module and class name, and `_target_` in a run's
config.yaml named them. FORMER_NAMES lists these names. A learning-rate schedule was not a
component, and its name was hashed. A record is changed only if the former hash of its configuration
gives its present identities: its run id and the key of each of its stages. In that case its folder,
`run_id`, stage keys and `_target_`s are replaced; nothing else in it changes.

The command is idempotent: repeat it after a crash, and it converts the rest.
"""

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load

from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.engine.checkpoint import sealed_checkpoint
from runner.engine.store import MANIFEST, Manifest, Part, Store
from runner.errors import ConfigError, Damaged
from runner.files import unsealed, write_bytes, write_json
from runner.records.folders import RECORD, read_record, write_record
from runner.spec.identity import Identity, identify, tag_of
from runner.spec.recipe import Recipe
from runner.spec.record import Record, RecordedStage
from runner.spec.run import Run, Stage

FORMER_NAMES: dict[str, str] = OmegaConf.to_container(
    OmegaConf.load(Path(__file__).with_name("former_names.yaml"))
)  # type: ignore[assignment]
TARGET = re.compile(r"^(?P<before>[ -]*_target_: )(?P<name>[\w.]+)$", re.MULTILINE)
STATUS = "status.json"


@dataclass
class Rekeyed:
    """The changes in one directory of results.

    Args:
        runs: former run id -> new run id.
        keys: former stage key -> new stage key.
        kept: unchanged run ids, whose configuration is unreadable or does not give them.
    """

    runs: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)


def former_name(cls: type) -> str:
    """The module and class name under which a component was hashed.

    A newer component has its tag: a run of version 0.1.0 has it at its default alone, which the
    hash omits.
    """
    return FORMER_NAMES.get(tag_of(cls), tag_of(cls))


def former_identity(run: Run) -> Identity:
    """The run's identity in version 0.1.0, by former names of components and schedules."""
    return identify(replace(run, stages=tuple(map(_with_schedule_name, run.stages))), former_name)


def _with_schedule_name(stage: Stage) -> Stage:
    """The stage with the name of its recipe's schedule in place of the component.

    The default schedule stays, since the hash omits it as it omitted its name.
    """
    if stage.recipe is None:
        return stage
    schedule, default = stage.recipe.lr_schedule, Recipe.lr_schedule
    before: Any = default if schedule == default else tag_of(type(schedule))
    return replace(stage, recipe=replace(stage.recipe, lr_schedule=before))


def renewed_config(text: str) -> str:
    """The text of a config.yaml with tags in place of the former names."""
    tags = {name: tag for tag, name in FORMER_NAMES.items()}
    return TARGET.sub(lambda found: found["before"] + tags.get(found["name"], found["name"]), text)


def rekey_results(results_dir: Path, console: Console | None = None) -> Rekeyed:
    """Re-key the runs in `results_dir`/runs and the run ids in `results_dir`/tables/*.csv."""
    done = Rekeyed()
    folders = sorted(path.parent for path in (results_dir / "runs").glob("*/config.yaml"))
    for folder in track(
        folders, "re-keying", console=console, transient=True, disable=console is None
    ):
        _rekey_run(folder, done)
    for path in sorted((results_dir / "tables").glob("*.csv")):
        text = path.read_text(encoding="utf-8")
        changed = re.sub(
            r"[\w.]+(?:-[\w.]+){4,}", lambda found: done.runs.get(found[0], found[0]), text
        )
        if changed != text:
            path.write_text(changed, encoding="utf-8")
    return done


def rekey_cache(cache_dir: Path, keys: dict[str, str]) -> int:
    """Rename artefacts and checkpoints of stages in the cache and seal them; return their number.

    Version 0.1.0 wrote no checksums. An artefact with a file that cannot be read stays as it is.
    """
    store, renamed = Store(cache_dir), 0
    for former, new in keys.items():
        path, target = store.path(former), store.path(new)
        if path.is_dir() and not target.exists() and _sealed_artefact(path, new):
            path.rename(target)
            renamed += 1
        path, target = store.checkpoint_path(former), store.checkpoint_path(new)
        if path.is_file() and not target.exists():
            write_bytes(target, sealed_checkpoint(new, path.read_bytes()))
            path.unlink()
            renamed += 1
    return renamed


def _sealed_artefact(folder: Path, key: str) -> bool:
    """Write the manifest of an artefact that has none; False if one of its files is unreadable.

    A folder that has the manifest already, because the command was killed, is not changed.
    """
    try:
        return bool(unsealed(folder / MANIFEST)["key"] == key)
    except Damaged:
        pass
    try:
        meta = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        contents = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
        for content in contents.values():
            load(content)
    except (OSError, ValueError, SafetensorError):
        return False
    parts = {name: Part.of(content) for name, content in contents.items()}
    Manifest(key, meta, parts).write(folder)
    return True


def _rekey_run(folder: Path, done: Rekeyed) -> None:
    """Re-key one run unless it already has its new identity."""
    config = renewed_config((folder / "config.yaml").read_text(encoding="utf-8"))
    try:
        run = build_run(OmegaConf.create(config), finished=True)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):  # written by an older version of the code
        done.kept.append(folder.name)
        return
    new = identify(run)
    try:
        former = former_identity(run)
    except KeyError:  # a component that version 0.1.0 did not have
        done.kept += [folder.name] if folder.name != new.run_id else []
        return
    if folder.name == new.run_id:
        # The command can have been killed before it came to the cache.
        done.keys |= {former.keys[name]: new.keys[name] for name in new.keys}
        return
    record = read_record(folder)
    if not _agrees(folder.name, former, record):
        done.kept.append(folder.name)
        return
    _write_anew(folder, config, record, new)
    done.runs[folder.name] = new.run_id
    done.keys |= {former.keys[name]: new.keys[name] for name in new.keys}


def _agrees(name: str, former: Identity, record: Record | None) -> bool:
    """Whether a configuration's former identities equal those of its folder and its record."""
    stages = record["stages"] if record else []
    return name == former.run_id and all(
        former.keys.get(stage["name"]) == stage["key"] for stage in stages
    )


def _write_anew(folder: Path, config: str, record: Record | None, new: Identity) -> None:
    """Write the run's folder under its new name, then delete the former one.

    The folder gets its new name only when it is complete.
    """
    temporary = folder.with_name(f".{uuid.uuid4().hex}")
    shutil.copytree(folder, temporary, ignore=shutil.ignore_patterns(".*"))
    (temporary / "config.yaml").write_text(config, encoding="utf-8")
    if (folder / STATUS).is_file():
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        write_json(temporary / STATUS, {**status, "run_id": new.run_id})
    if record is not None:  # one that is not valid stays as it is
        write_record(temporary / RECORD, _renewed(record, new))
    target = folder.with_name(new.run_id)
    if target.exists():  # the process was killed before it deleted the former folder
        shutil.rmtree(temporary)
    else:
        temporary.rename(target)
    shutil.rmtree(folder)


def _renewed(record: Record, new: Identity) -> Record:
    """A record with its new identities."""
    stages: list[RecordedStage] = [
        {**stage, "key": new.keys[stage["name"]]} for stage in record["stages"]
    ]
    return {**record, "run_id": new.run_id, "stages": stages}


def rekey(words: list[str], console: Console) -> int:
    """Re-key this machine's results and cache.

    Args:
        words: env.results_dir=DIR, env.cache_dir=DIR.

    Raises:
        ConfigError: any other word.
    """
    if other := [
        word for word in words if not word.startswith(("env.results_dir=", "env.cache_dir="))
    ]:
        raise ConfigError(
            f"{' '.join(other)}: rekey takes env.results_dir=DIR and env.cache_dir=DIR alone"
        )
    env = compose_config(words).env
    done = rekey_results(Path(env.results_dir), console)
    stages = rekey_cache(Path(env.cache_dir), done.keys)
    console.print(
        f"{len(done.runs):,} runs in {env.results_dir} and {stages:,} stages in {env.cache_dir}"
        " have their new identities",
        soft_wrap=True,
    )
    for name in _first(done.kept):
        console.print(
            f"left as it is, its configuration does not give this identity: {name}", soft_wrap=True
        )
    return 0


def _first(names: list[str], shown: int = 10) -> Iterator[str]:
    yield from names[:shown]
    if len(names) > shown:
        yield f"and {len(names) - shown:,} more"
