"""Types of the configuration for Hydra, which refuses unknown keys and values of the wrong type.

The values are in conf/*.yaml, each with its source. The types of a component's options are those of
the dataclass whose tag is its `_target_` (runner/config/instantiate.py). No torch is imported here,
so that `--help` and `--cfg` stay fast.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from runner.config.plain import Plain


@dataclass
class TrainConfig:
    """A paper's training settings. Its durations are multiplied by `scale`."""

    name: str = MISSING
    epochs: int = MISSING
    scale: float = MISSING
    lr: float = MISSING
    optimizer: str = MISSING
    lr_schedule: str = MISSING
    warmup: str = MISSING
    batch_size: int = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    test_every: int = MISSING
    precision: str = MISSING


@dataclass
class EnvConfig:
    """Settings of the machine; never part of an identity."""

    device: str = MISSING
    threads: int | None = None
    workers: int | None = None
    memory_gb: float | None = None
    save_predictions: Any = False
    profile: Any = False
    results_dir: str = MISSING
    cache_dir: str = MISSING
    data_dir: str = MISSING
    plan: Any = False  # typed by Environment, like all booleans
    checkpoint_seconds: float = MISSING
    progress: str = MISSING


@dataclass
class Config:
    """The whole configuration of a run."""

    dataset: Plain = field(default_factory=dict)
    model: Plain = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    source: Any = None
    allocate: Any = None
    pick: Any = None
    schedule: Any = None
    start: Plain = field(default_factory=dict)
    retrain: Plain = field(default_factory=dict)
    method: Plain = field(default_factory=dict)
    portrait: Plain = field(default_factory=dict)
    env: EnvConfig = field(default_factory=EnvConfig)
    logger: Plain = field(default_factory=dict)
    density: float | None = None
    seed: int = 0
    train_fraction: float = 1.0


@cache
def register() -> None:
    """Register the types with Hydra, once; conf/config.yaml refers to them as `schema`."""
    ConfigStore.instance().store(name="schema", node=Config)
