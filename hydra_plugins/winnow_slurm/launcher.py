"""hydra/launcher=slurm: a sweep's jobs through runner/launch/slurm.py. Hydra finds launchers in the package `hydra_plugins` alone."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Slurm(Launcher):
    """A Slurm job for each job of a sweep; options: conf/hydra/launcher/slurm.yaml."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.config: DictConfig | None = None
        self.context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what composes the jobs; the task function is not called here."""
        self.config, self.context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Check every job, submit those that are not done, wait, say what failed.

        Raises:
            ConfigError: an option or a job that could not start; none has been submitted then.
            SweepEnded: some jobs failed.
        """
        from runner.errors import ConfigError
        from runner.launch.slurm import launch_slurm  # here, not above: Hydra imports every plugin for --help too

        assert self.config is not None and self.context is not None
        if self.config.hydra.sweeper.get("max_batch_size") is not None:
            raise ConfigError(
                "hydra.sweeper.max_batch_size: this launcher takes a sweep's jobs all at once; hydra.launcher.array_parallelism says how many run at a time"
            )
        loader = self.context.config_loader
        configs = [loader.load_sweep_config(self.config, list(words)) for words in job_overrides]
        launch_slurm(configs, [list(words) for words in job_overrides], self.options)
        return [JobReturn(overrides=words, _return_value=0, status=JobStatus.COMPLETED) for words in job_overrides]
