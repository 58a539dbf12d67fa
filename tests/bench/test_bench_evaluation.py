"""The figure of evaluation: both ways compute the same numbers."""

import pytest
import torch

from runner.bench.evaluation import _before, _ours, evaluation_figure


def test_the_plain_way_and_ours_evaluate_one_net_to_the_same_numbers() -> None:
    ours, before = _ours(200)(), _before(200)()  # batches of 128 and 72
    assert ours == before
    assert 0 < ours.top5 <= 100 and ours.loss > 0


@pytest.mark.slow
def test_the_figure_is_the_plain_time_over_ours() -> None:
    torch.set_num_threads(1)
    figure = evaluation_figure(rounds=1, images=128)
    assert figure.name == "eval_vs_before" and figure.rival_value is not None
    assert figure.ratio == pytest.approx(figure.rival_value / figure.value)
