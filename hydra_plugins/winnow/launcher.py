"""hydra/launcher=NAME: a sweep's jobs through a launcher of runner/launch. Hydra looks for launchers in the package `hydra_plugins` alone."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class WinnowLauncher(Launcher):
    """Hands a sweep to the launcher that its file in conf/hydra/launcher names; the file's other keys are the options."""

    def __init__(self, **node: Any) -> None:
        self.node = node
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
        from runner.errors import ConfigError  # here, not above: Hydra imports every plugin for --help too
        from runner.launch.launcher import launcher_class, make_launcher, own_options
        from runner.launch.sweep import run_sweep

        assert self.config is not None and self.context is not None
        cls = launcher_class(self.node)
        if self.config.hydra.sweeper.get("max_batch_size") is not None:
            problem = "hydra.sweeper.max_batch_size: this launcher takes a sweep's jobs all at once"
            raise ConfigError(f"{problem}; {cls.at_a_time}")
        overrides = [list(words) for words in job_overrides]
        configs = [self.context.config_loader.load_sweep_config(self.config, words) for words in overrides]
        run_sweep(make_launcher(cls, own_options(self.node)), configs, overrides)
        return [JobReturn(overrides=words, _return_value=0, status=JobStatus.COMPLETED) for words in job_overrides]
