"""One composer for many command lines gives what Hydra gives for each of them."""

import pytest

from runner.config.compose import Composer, compose_in_full
from runner.config.plain import to_plain
from runner.errors import ConfigError

LINES = [
    ["method=snip", "density=0.1"],
    ["method=snip", "density=1"],  # becomes 1.0
    ["method=snip", "seed=3", "train_fraction=1", "density=0.5"],
    ["method=snip", "density=0.5", "dataset=cifar10", "train=imc", "model=resnet20_w32"],
    ["method=snip", "density=0.5", "dataset=cifar10", "dataset.validation=0.1", "train.lr=1"],
    ["method=snip", "density=0.5", "train.scale=0.5", "train.lr_schedule=cosine"],
    ["method=snip", "density=0.5", "start=dense", "retrain=finetune"],
    ["method=imc", "method.gap.rule=fixed", "model=mlp", "model.hidden=[16]", "density=null"],
    ["method=snip", "density=0.1", "logger=none", "env.workers=2"],
    ["method=snip"],
]


def test_one_composer_gives_each_command_line_its_own_configuration() -> None:
    composer = Composer()
    for line in [*LINES, *reversed(LINES)]:  # what one line sets does not stay for another
        expected = to_plain(compose_in_full(line), resolve=False)
        assert composer.plain(line) == expected


@pytest.mark.parametrize("wrong", ["density=many", "sed=1", "train.momentun=0.9", "seed=1.5"])
def test_an_error_is_that_of_the_command_line(wrong: str) -> None:
    composer = Composer()
    composer.plain(["method=snip", "density=0.1", "seed=1"])
    messages = []
    for compose in (composer.plain, compose_in_full):
        with pytest.raises(ConfigError) as error:
            compose(["method=snip", wrong])
        messages.append(error.value.messages)
    assert messages[0] == messages[1]
