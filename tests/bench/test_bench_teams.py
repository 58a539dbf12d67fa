"""The CPU time of a team in the benchmark."""

from typing import Any

import pytest

from runner.bench.teams import _cpu_time, _Team


class Process:
    """The connection to a process, with the CPU seconds that its work takes each time."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)

    def send(self, order: object) -> None:
        assert order is True

    def recv(self) -> tuple[None, float]:
        return None, self.seconds.pop(0)


def test_the_cpu_time_of_a_team_is_that_of_all_its_processes_in_the_best_round() -> None:
    processes: list[Any] = [Process(1.0, 3.0), Process(2.5, 0.25)]
    figure = _cpu_time("team_cpu_work", _Team(processes), lambda: sum(range(1000)), 2)
    assert figure.value == 3.25 and figure.unit == "CPU s"
    assert figure.ratio is not None and figure.rival_value is not None
    assert figure.ratio * figure.rival_value == pytest.approx(3.25)
    assert 0 < figure.rival_value < 1
