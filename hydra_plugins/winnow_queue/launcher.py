"""hydra/launcher=gpu_queue: a sweep's jobs through runner/launch/queue.py. Hydra finds launchers in the package `hydra_plugins` alone."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GpuQueue(Launcher):
    """A process for each job, on slots; options: conf/hydra/launcher/gpu_queue.yaml."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.config: DictConfig | None = None
        self.context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what composes the jobs; the task function is not called here, each job is a command of its own."""
        self.config, self.context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Check every job, run those that are not done, say what failed.

        Raises:
            ConfigError: an option or a job that could not start; none has been started then.
            SweepEnded: some jobs failed or the sweep was stopped.
        """
        from runner.errors import ConfigError
        from runner.launch.sweep import launch  # here, not above: Hydra imports every plugin for --help too

        assert self.config is not None and self.context is not None
        if self.config.hydra.sweeper.get("max_batch_size") is not None:
            raise ConfigError("hydra.sweeper.max_batch_size: this launcher takes a sweep's jobs all at once; hydra.launcher.slots says how many run at a time")
        loader = self.context.config_loader
        configs = [loader.load_sweep_config(self.config, list(words)) for words in job_overrides]
        launch(configs, [list(words) for words in job_overrides], self.options)
        return [JobReturn(overrides=words, _return_value=0, status=JobStatus.COMPLETED) for words in job_overrides]
