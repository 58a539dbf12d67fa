"""`make bench`: its parts by name, the rounds of a comparison, and the file of figures."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch
from torch import nn

from runner.bench.convolutions import convolutions
from runner.bench.figures import Figure
from runner.bench.parts import PARTS
from runner.bench.run import bench, read_options
from runner.bench.saved import SavedRows, part_of, row_of
from runner.bench.timing import Comparison, compare, measure_rounds
from runner.errors import ConfigError
from runner.files import write_json
from runner.records.provenance import git_state
from tests.table_support import console_text

# names that are read outside the repository
CHECKED = {
    "train_cpu_fp32",
    "limit_cpu_fp32",
    "synflow_limit",
    "imc_overhead",
    "job_overhead_s",
    "done_vs_torch",
    "help_vs_torch",
    "tables_10k_s",
    "eval_vs_before",
    "team_cpu",
    "team_decodes",
    "team_scores",
}


def test_every_name_that_is_read_elsewhere_has_a_part() -> None:
    assert set(PARTS) >= CHECKED
    # a figure's name begins with that of its part: no part may hide another one
    assert not [(a, b) for a in PARTS for b in PARTS if a != b and b.startswith(f"{a}_")]


def test_an_unknown_part_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError) as error:
        read_options(["only=expanding,help_vs_torhc"])
    (message,) = error.value.messages
    assert message.startswith("only=help_vs_torhc is not a choice: train_cpu_fp32, ")
    assert message.endswith("; did you mean 'help_vs_torch'?")


def test_the_file_has_one_row_for_each_figure_with_device_and_versions(tmp_path: Path) -> None:
    folders = [f"env.results_dir={tmp_path}", f"env.cache_dir={tmp_path}"]
    words = ["only=trials", "rounds=1", "threads=1", *folders]
    printed = console_text(lambda console: bench(words, console))
    assert printed.startswith("trials, ") and "; ratio " in printed
    (row,) = json.loads((tmp_path / "bench" / "bench.json").read_text())
    assert list(row) == [
        *("name", "value", "unit", "rival", "rival_value", "ratio"),
        *("device", "cpu_capability", "threads", "torch"),
        *("git_sha", "git_dirty", "measured"),
    ]
    assert (row["name"], row["unit"], row["threads"]) == ("trials", "s", 1)
    assert row["ratio"] == pytest.approx(row["rival_value"] / row["value"])  # of a single round
    assert row["torch"] == torch.__version__
    assert {key: row[key] for key in ("git_sha", "git_dirty")} == git_state()


def test_a_command_replaces_the_rows_of_its_parts_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    former = ("tables_10k_s", "tables_10k_s_first", "synflow_limit", "synflow_limit_rival")
    write_json(path, [{"name": name, "value": 1.0, "torch": "old"} for name in former])
    rows = [row_of(Figure("tables_10k_s", 2.0, "s"), torch.device("cpu"))]
    SavedRows(path).replace("tables_10k_s", rows)
    found = json.loads(path.read_text())
    # in the order of the parts; the figure that the part no longer measures is gone
    assert [(row["name"], row["value"]) for row in found] == [
        ("synflow_limit", 1.0),
        ("synflow_limit_rival", 1.0),
        ("tables_10k_s", 2.0),
    ]
    assert [row["torch"] for row in found] == ["old", "old", torch.__version__]
    assert datetime.fromisoformat(found[-1]["measured"]).utcoffset() == timedelta(0)


def test_every_figure_belongs_to_the_part_whose_name_it_begins_with() -> None:
    assert [part_of(name) for name in PARTS] == list(PARTS)
    assert part_of("job_overhead_s_more") == "job_overhead_s"
    assert part_of("former_figure") == "former_figure"


@pytest.mark.parametrize("text", ["{", "{}1", '{"a": 1}', "[1]", '[{"value": 1}]', "3"])
def test_another_file_in_its_place_is_refused_before_anything_is_measured(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "bench" / "bench.json"
    path.parent.mkdir()
    path.write_text(text)
    words = ["only=expanding", f"env.results_dir={tmp_path}", f"env.cache_dir={tmp_path}"]
    with pytest.raises(ConfigError, match=r"bench\.json is not a list of figures: remove it"):
        console_text(lambda console: bench(words, console))
    assert path.read_text() == text


def test_a_comparison_alternates_the_order_and_leaves_out_the_first_round() -> None:
    order: list[str] = []
    work = Comparison("n", "w", "b", lambda: order.append("w"), lambda: order.append("b"))
    assert len(measure_rounds(work, 3)) == 3
    assert "".join(order) == "bwwbbwwb"


def test_a_slow_comparison_ends_after_its_first_measured_round() -> None:
    work = Comparison("n", "w", "b", lambda: None, lambda: None)
    assert len(measure_rounds(work, 5, longest=0)) == 1


def test_the_ratio_is_a_speed_or_a_cost() -> None:
    def sleep(seconds: float) -> None:
        torch.randn(int(seconds * 1e8))

    for cost in (False, True):
        found = compare(
            Comparison("n", "w", "b", lambda: sleep(0.1), lambda: sleep(0.001), cost), 1
        )
        assert found.rival_value is not None and found.ratio is not None
        assert found.ratio == found.ratios[0]
        ratio = found.value / found.rival_value
        assert found.ratio == pytest.approx(ratio if cost else 1 / ratio)


def test_the_convolutions_of_the_limit_are_those_of_a_pass() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 5, 1, stride=2)
    )
    found = convolutions(model, torch.randn(2, 3, 8, 8))
    assert [(tuple(c.x.shape), tuple(c.grad.shape), c.first) for c in found] == [
        ((2, 3, 8, 8), (2, 4, 8, 8), True),
        ((2, 4, 8, 8), (2, 5, 4, 4), False),
    ]
    for each in found:
        each.run()
