"""Plans state hours for the team and the card that were asked for."""

import re
from pathlib import Path
from typing import Any

import pytest
from support import compose_run, machine, perform_run
from table_support import console_text

from runner.commands.plan import show_plan, team_of
from runner.engine.machine import Place
from runner.errors import ConfigError
from runner.launch.gpu_queue import GpuQueue
from runner.launch.slurm import Slurm
from runner.planning.cards import CARDS, Card, card_of
from runner.planning.costs import past_rates
from runner.planning.hours import Team
from runner.planning.show import lines
from runner.planning.survey import survey
from runner.spec.planned import plan_run
from runner.spec.request import Environment

SMALL = ("dataset=digits", "model=mlp", "train.scale=0.0125")
# docs/records.md: two epochs x 1,437 images x 3 passes x 112,200 multiply-accumulates of the mlp
MACS = 967_388_400


def test_a_card_takes_two_operations_for_a_multiply_accumulate() -> None:
    card = Card("any", "", {"bf16": 100.0}, utilisation=0.5)
    # 5e13 operations a second are 2.5e13 multiply-accumulates
    assert card.seconds("bf16", 2.5e14) == pytest.approx(10.0)


# Data sheets: cores, GHz at boost; tensor cores, their multiply-accumulates of bf16 a clock, GHz.
CHIPS = {
    "h200": (16896, 1.98, 528, 512, 1.83),
    "h100": (16896, 1.98, 528, 512, 1.83),
    "a100": (6912, 1.41, 432, 256, 1.41),
    "v100": (5120, 1.53, 0, 0, 0.0),
    "l40s": (18176, 2.52, 568, 128, 2.52),
    "t4": (2560, 1.59, 0, 0, 0.0),
    "rtx4090": (16384, 2.52, 512, 64, 2.52),
    "rtx3090": (10496, 1.695, 328, 64, 1.695),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_cards_rates_are_those_of_its_cores_and_clock(name: str) -> None:
    cores, clock, tensor_cores, each, tensor_clock = CHIPS[name]
    expected = {"fp32": 2 * cores * clock / 1e3}
    if tensor_cores:
        expected["bf16"] = 2 * tensor_cores * each * tensor_clock / 1e3
    assert CARDS[name].tflops == pytest.approx(expected, rel=0.015)


def test_the_words_of_a_card_are_taken_out() -> None:
    words = ["imc_table01", "card=h200", "seeds=0"]
    assert card_of(words) == (CARDS["h200"], ["imc_table01", "seeds=0"])
    assert card_of(["imc_table01"]) == (None, ["imc_table01"])
    card, _ = card_of(["tflops=500", "utilisation=0.4"])
    assert card is not None and card.utilisation == 0.4
    assert card.tflops == {"bf16": 500.0, "fp32": 500.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["card=h20"], "card=h20 is not a choice: .*did you mean 'h200'.*tflops=NUMBER"),
        (["tflops=0"], "tflops=0 must be a number above 0"),
        (["tflops=fast"], "tflops=fast must be a number above 0"),
        (["card=a100", "utilisation=2"], "utilisation=2 must be a number above 0, at most 1"),
        (["utilisation=0.5"], "utilisation= needs card=NAME or tflops=NUMBER"),
    ],
)
def test_wrong_cards_give_one_message(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        card_of(words)


def test_a_precision_that_the_card_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="card=v100 has no bf16 instructions; use .*fp32"):
        CARDS["v100"].seconds("bf16", 1.0)


def time_of(folder: Path, team: Team, *words: str) -> str:
    found = survey([(plan_run(compose_run("method=dense", *SMALL, *words)), machine(folder))])
    (line,) = [each for each in lines(found, machine(folder), team) if each.startswith("time:")]
    return line


def test_the_hours_of_a_card_without_a_record_follow_from_its_rate(tmp_path: Path) -> None:
    card = Card("any", "", {"fp32": 1e-6}, utilisation=0.5)  # 500,000 operations a second
    alone = time_of(tmp_path, Team(1, card=card))
    seconds = 2 * MACS / 5e5
    assert alone.startswith(f"time: about {seconds / 3600:.3g} hours one after another (estimate")
    assert "without a record: 2 x multiply-accumulates / (TFLOP/s x utilisation)" in alone
    assert "any computes 1e-06 in fp32 TFLOP/s at most; utilisation=0.5)" in alone
    four = time_of(tmp_path, Team(1, lambda model: 4, card))
    assert f"about {seconds / 4 / 3600:.3g} hours one after another, in jobs of 4 proc" in four
    assert "utilisation x processes)" in four
    assert "assumes that 4 processes train as many times as fast as one" in four


def record_of(record: dict[str, Any], **origin: Any) -> dict[str, Any]:
    stage = {**record["stages"][0], "key": str(origin), "seconds": origin.pop("seconds")}
    return {**record, "stages": [stage], "provenance": {**record["provenance"], **origin}}


def test_records_of_teams_do_not_count_for_one_process(tmp_path: Path) -> None:
    run = compose_run("method=dense", *SMALL)
    record, _ = perform_run(run, machine(tmp_path))
    records = [
        record_of(record, device_name="D", threads=1, processes=1, seconds=80.0),
        record_of(record, device_name="D", threads=1, processes=4, seconds=30.0),
    ]
    for size, seconds in ((1, 80.0), (4, 30.0)):
        rates = past_rates(records, "D", 1, processes=size)
        assert rates.records == 1
        (rate,) = (each for key, each in rates.training.items() if len(key) == 1)
        assert rate.seconds == seconds
    assert past_rates(records, "D", 1, processes=4).origin.endswith(
        "1 thread(s) in each of 4 processes"
    )


def test_records_of_the_card_come_before_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _ = perform_run(compose_run("method=dense", *SMALL), machine(tmp_path))
    stored = [
        record_of(record, device_name="NVIDIA H200", threads=4, processes=1, seconds=3600.0),
        record_of(record, device_name="NVIDIA H200", threads=4, processes=2, seconds=2000.0),
    ]
    monkeypatch.setattr("runner.planning.hours.all_records", lambda folder: stored)
    where = tmp_path / "new"
    alone = time_of(where, Team(1, card=CARDS["h200"]))
    assert "about 1 hours one after another (estimate from 2 past records on NVIDIA H200" in alone
    # equal records count twice, because both folders have them here; the rate is the same
    two = time_of(where, Team(1, lambda model: 2, CARDS["h200"]))
    assert f"about {2000 / 3600:.3g} hours" in two and "in each of 2 processes" in two
    four = time_of(where, Team(1, lambda model: 4, CARDS["h200"]))
    assert "about 0.25 hours" in four and "assumes that 4 processes" in four
    other = time_of(where, Team(1, card=CARDS["a100"]))
    assert "estimate without a record" in other


def test_the_team_is_that_of_the_launcher(tmp_path: Path) -> None:
    own = Environment(
        "cpu", 1, None, tmp_path, tmp_path, tmp_path, False, checkpoint_seconds=60, progress="none"
    )
    queue = GpuQueue(slots=4, slots_per_job=2, sizes={"resnet50": 4})
    team = team_of(queue, Place(own))
    assert (team.threads, team.processes("mlp"), team.processes("resnet50")) == (1, 2, 4)
    slurm = team_of(Slurm(nodes=2, gpus_per_node=8), Place(own))
    assert slurm.processes("mlp") == 16


def test_the_plan_of_a_table_for_eight_cards_states_no_cpu_hours(tmp_path: Path) -> None:
    own = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache", "data")]
    words = ["hydra/launcher=slurm", "hydra.launcher.gpus_per_node=8", "card=h200"]
    text = console_text(
        lambda console: show_plan(["jackpots_table03", "seeds=0", *words, *own], console)
    )
    (line,) = [each for each in text.splitlines() if each.startswith("time: ")]
    assert "in jobs of 8 processes (estimate without a record: " in line
    macs = sum(
        float(each) for each in re.findall(r"([\d.e+]+) to (?:train|measure)(?: \(epochs|;)", text)
    )
    assert macs > 1e9
