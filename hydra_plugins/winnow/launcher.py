"""Hydra plugin for hydra/launcher=NAME: runs a sweep's jobs with a launcher of runner/launch.

Hydra searches for launchers only in the package `hydra_plugins`.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class WinnowLauncher(Launcher):  # type: ignore[misc]  # Hydra has no types
    """Passes a sweep to a launcher of runner/launch.

    The file in conf/hydra/launcher names the launcher; its other keys are the launcher's options.
    """

    def __init__(self, **node: Any) -> None:
        self.node = node
        self.config: DictConfig | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the configuration; the task function is not used: each job is its own command."""
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Check every job, run those that are not done, and print the failed ones.

        Raises:
            ConfigError: an option is invalid or a job could not start; none has been started.
            SweepEnded: some jobs failed or the sweep was stopped.
        """
        # Imported here because Hydra imports every plugin, even for --help.
        from runner.config.compose import compose_config
        from runner.config.overrides import search_path
        from runner.errors import ConfigError
        from runner.launch.launcher import launcher_class, make_launcher, own_options
        from runner.launch.sweep import run_sweep

        assert self.config is not None
        cls = launcher_class(self.node)
        if self.config.hydra.sweeper.get("max_batch_size") is not None:
            problem = "hydra.sweeper.max_batch_size: this launcher takes a sweep's jobs all at once"
            raise ConfigError(f"{problem}; {cls.at_a_time}")
        own = search_path(self.config.hydra.overrides.hydra)
        overrides = [[*own, *job] for job in job_overrides]
        configs = [compose_config(each) for each in overrides]
        run_sweep(make_launcher(cls, own_options(self.node)), configs, overrides)
        return [
            JobReturn(overrides=job, _return_value=0, status=JobStatus.COMPLETED)
            for job in job_overrides
        ]
