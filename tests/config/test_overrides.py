"""Command lines that Hydra would misread, and own configuration folders."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import COMPOSER, compose_run, machine

from runner.commands.arguments import launcher
from runner.config.build import build_run, parse_run
from runner.config.compose import Composer, compose_config, has_method
from runner.config.named_parts import named_part
from runner.config.overrides import check_overrides, check_words, conf_folders, with_search_path
from runner.config.own_parts import LR_SCHEDULE
from runner.config.synonyms import other_choice, other_key
from runner.config.unread import unread
from runner.engine.preflight import check
from runner.errors import ConfigError, nearest
from runner.launch.gpu_queue import GpuQueue
from runner.launch.sweep import check_sweep
from runner.paths import CONF
from runner.spec.identity import run_id
from runner.spec.lr_schedule import Step
from runner.suites.expand import expand, parse_arguments

REFUSED = {  # words -> what the one message contains
    "density=0.1,0.2 seed=0,1,2 density=0.5 -m": ["density=0.1,0.2 and density=0.5"],
    "method=snip method=grasp": ["method=snip and method=grasp"],
    "seed=0 seed=0": ["seed is given 2 times"],
    "--density=0.1": ["write density=0.1"],
    "--density 0.1": ["write density=0.1"],
    "--sparsity=0.9": ["write density=0.1"],
    "--method=lth": ["write method=imp"],
    "--lr=0.1,0.2": ["write -m train.lr=0.1,0.2"],
    "+sparsity=0.9": ["write density=0.1"],
    "--lr=0.1": ["write train.lr=0.1"],
    "hydra/launcher=gpu_queue seed=0": ["python run.py -m hydra/launcher=gpu_queue seed=0"],
    "model=mlp model.name=resnet20": ["model.name", "model=NAME"],
    "method=snip method.name=grasp": ["method.name", "method=NAME"],
    "method=snip method.name=../../x": ["method.name"],
    "start=dense start.trained=init": ["start.trained", "start=NAME"],
    "start=dense start.finetune={from:init}": ["start.finetune.from"],
    "method=snip method.score._target_=grasp": ["method.score._target_"],
    "retrain=finetune retrain.label=null": ["retrain.label"],
    "method=imc method.stages=[]": ["method.stages"],
    "method=rigl method.per_data_set.imagenet.images=5": ["method.per_data_set"],
    "train.name=x": ["train.name"],
    "+density=0.1": ["write density=0.1"],
    "method=dense schedule=[[]]": ["schedule=[[]]: schedule is one choice"],
    "method=grasp allocate=[1,2]": ["allocate is one choice; write allocate=NAME"],
    "method=[snip,grasp]": ["-m method=NAME,NAME"],
    "method=set schedule='${'": ["schedule is one choice"],
    "method=snip pick={a:1}": ["pick is one choice"],
    "method=dense start=shuffle(1)": ["start=shuffle(1): start is one choice"],
    f"method=dense model={'x' * 300}": ["is not a choice: it has 300 characters"],
    f"-m method=snip,{'x' * 300}": ["method=xxx", "is not a choice: it has 300 characters"],
}
COMPOSED = {  # overrides -> the message that Hydra's becomes
    "sparsity=0.9": "density=0.1",
    "seeds=0,1": "python run.py -m seed=0,1",
    "sparsity=0.9,0.5": "python run.py -m density=0.1,0.5",
    "lr=0.1": "write train.lr=0.1",
    "method=lth": "method=imp",
    "model=ResNet20": "did you mean 'resnet20'",
    "dataset=CIFAR10": "did you mean 'cifar10'",
    "method=IMC": "did you mean 'imc'",
    "seed=0,1": "python run.py -m seed=0,1",
    "table=imc_table01": "make reproduce TABLE=imc_table01",
    "figure=imc_figure01": "make reproduce TABLE=imc_figure01",
    # the second word cannot be composed either: the message of the first is the defaults' keys
    "method/theory=recovery lr_schedule=step": "method/theory is not a key",
    "nothing=1 portrait=${": "'portrait=${' is not an override",
    "hydra.nothing=1 lr_schedule=step": "is not a key",
}
INVALID = {  # overrides -> what a message contains; these once ran as another experiment
    # a reference puts a value of any type in place of a number
    "method=snip density=0.1 train_fraction=${method.name}": "train_fraction='snip' must be a num",
    "method=snip density=${oc.env:HOME}": "must be a number",
    "method=snip density=0.1 seed=${train_fraction}": "seed=1.0 must be a whole number",
    "method=sr_popup density=0.3 method.batch_size=0": "method.batch_size=0 must be at least 2",
    "method=imc method.wstar.lr_schedule=false": "method.wstar.lr_schedule=False",
    "method=sr_popup density=0.3 method.lr=true": "method.lr=True",
    "method=flow_prune density=0.3 method.rounds=-5": "method.rounds=-5",
    "method=flow_prune density=0.3 method.rounds=100000000": "method.rounds=100000000",
    "method=imp density=0.3 method.keep=0.999999": "method.keep=0.999999",
    "method=synflow density=0.3 schedule.iterations=10000000": "schedule.iterations",
    "method=rigl density=0.3 method.rhythm.epochs=-1": "method.rhythm.epochs=-1",
    "method=imc method.epoch_column=abc": "method.epoch_column='abc' must be a list",
    "method=imc method.epoch_column=[abc]": "method.epoch_column=abc",
    "train.lr=inf": "train.lr=inf must be a finite number",
    "train.weight_decay=1e39": "train.weight_decay=1e+39 must be at most 3.4e38",
    "method=sr_popup density=0.3 start=rounds": "choices that have them: method=imp",
    "method=magnitude density=0.3 start=rounds": "choices that have them: method=imp",
    "method=snip density=0.3 start=pretrained retrain=finetune": "start=dense",
    "method=continuous_sparsification method.ticket.stage=abc": "method.ticket.stage='abc'",
    "method=deep_r density=0.3 method.pruner.score=abc": "method.pruner.score='abc'",
    "method=sr_popup density=0.3 method.tuning.batch_size=-1": "method.tuning.batch_size=-1",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_misread_command_line_is_refused_with_the_line_to_write(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_words(line.split())
    (message,) = caught.value.messages
    assert all(part in message for part in REFUSED[line]), message


@pytest.mark.parametrize("line", COMPOSED)
def test_other_words_for_keys_and_choices_are_translated(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config(line.split())
    (message,) = caught.value.messages
    assert COMPOSED[line] in message


def test_the_key_mask_is_read_as_the_file_of_masks() -> None:
    words = ["method=given", "mask=a=b.pt", "train.scale=0.1", "-m"]
    assert with_search_path(words) == [
        *("method=given", "method.masks=a=b.pt", "train.scale=0.1", "-m")
    ]
    twice = with_search_path(["method=given", "mask=a.pt", "method.masks=b.pt"])
    with pytest.raises(ConfigError, match="method.masks is given 2 times"):
        check_words(twice)


@pytest.mark.parametrize("line", INVALID)
def test_a_value_that_would_run_another_experiment_is_refused(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(*line.split())
    assert INVALID[line] in str(caught.value)


def test_a_start_that_lacks_several_keys_gives_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run("method=sr_popup", "density=0.3", "start=rounds")
    (message,) = caught.value.messages
    assert message.startswith("start=rounds reads method.data and method.rewind, which method=sr_p")


def test_every_synonym_leads_to_something_that_exists() -> None:
    assert other_choice("method", "LTH") == "imp" and other_key("LR") == "train.lr"
    assert other_choice("method", "imp") is None and other_key("density") is None
    assert nearest("Table-1", ["table01", "x"]) == "; did you mean 'table01'?"


@pytest.mark.parametrize("word", ["no", "off", "NO", "0", "false"])
def test_the_words_of_yaml_for_truth_values_mean_the_same_everywhere(word: str) -> None:
    imc = ["method=imc", "retrain=rewind", "model=mlp"]
    default = run_id(compose_run(*imc))
    assert run_id(compose_run(*imc, f"retrain.resume_schedule={word}")) == default
    on = {"no": "yes", "off": "on", "NO": "YES", "0": "1", "false": "true"}[word]
    assert run_id(compose_run(*imc, f"retrain.resume_schedule={on}")) != default
    finetuned = ["method=imc", "model=mlp", "retrain=finetune"]
    tuned = compose_run(*finetuned, f"start.finetune.resume={word}")
    assert not tuned.stage("train").start.resume
    with pytest.raises(ConfigError, match=r"retrain.resume_schedule='perhaps' must be true"):
        compose_run(*imc, "retrain.resume_schedule=perhaps")


def test_a_budget_that_no_layer_can_have_is_refused_before_any_work(tmp_path: Path) -> None:
    run = compose_run("method=sanity_check", "density=0.0005", "model=resnet20")
    with pytest.raises(ConfigError, match="raise density, or lower allocate.linear"):
        check(run, machine(tmp_path))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train_fraction=0.0001", "take train_fraction=0.007 or more"),
        ("dataset.validation=0.001", "dataset.validation=0.001 splits 1,437"),
    ],
)
def test_fewer_images_than_classes_are_refused_before_any_work(
    setting: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(compose_run("method=dense", "model=mlp", setting), machine(tmp_path))


def own_folder(tmp_path: Path) -> Path:
    """A folder with a method, and a group of its own."""
    folder = tmp_path / "my conf, own=1"
    for group in ("method", "experiment"):
        (folder / group).mkdir(parents=True)
    text = (CONF / "method" / "magnitude.yaml").read_text()
    (folder / "method" / "mine.yaml").write_text(text.replace("name: magnitude", "name: mine"))
    (folder / "experiment" / "a.yaml").write_text("# @package _global_\ntrain: {lr: 0.05}\n")
    return folder


def test_an_own_folder_reaches_runs_tables_and_jobs(tmp_path: Path) -> None:
    folder = own_folder(tmp_path)
    for flag in (["--config-dir", str(folder)], [f"--config-dir={folder}"], ["-cd", str(folder)]):
        words = with_search_path([*flag, "method=mine", "density=0.3", "+experiment=a"])
        check_words(words)
        cfg = compose_config(words)
        assert (cfg.method.name, cfg.train.lr) == ("mine", 0.05)
        assert conf_folders(words) == [CONF, folder]
    assert Composer().plain(words)["method"]["name"] == "mine"
    assert has_method("mine", words) and not has_method("mine")
    _, rest = launcher(["imc_table14@digits", "seeds=0", *flag, "+experiment=a"])
    names, chosen, overrides = parse_arguments(rest)
    jobs = expand(names[0], chosen, overrides, COMPOSER).jobs
    assert jobs and all(words[-1] in job.overrides for job in jobs)
    assert {s.recipe.lr for job in jobs for s in job.run.stages if s.recipe} == {0.05}


def test_own_schedules_and_launchers_of_a_folder_are_found_everywhere(tmp_path: Path) -> None:
    folder = own_folder(tmp_path)
    for name, text in {
        "lr_schedule/early.yaml": "_target_: step\ndrops: [1/4]\nfactor: 0.5\n",
        "train/mine.yaml": "defaults: [imc]\nname: mine\nlr_schedule: early\n",
        "hydra/launcher/one.yaml": (CONF / "hydra/launcher/gpu_queue.yaml")
        .read_text()
        .replace("slots: null", "slots: 1"),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    words = with_search_path(["--config-dir", str(folder), "train=mine", "method=dense"])
    cfg = compose_config(words)
    run = build_run(cfg)
    expected = Step(drops=("1/4",), factor=0.5)
    assert [stage.recipe.lr_schedule for stage in run.stages if stage.recipe] == [expected]
    # config.yaml alone describes the run
    assert parse_run(OmegaConf.to_yaml(cfg, resolve=True)) == run
    chosen, rest = launcher(
        ["imc_table14@digits", "seeds=0", f"--config-dir={folder}", "train=mine"]
        + ["hydra/launcher=one"]
    )
    assert isinstance(chosen, GpuQueue) and chosen.slots == 1
    names, selected, overrides = parse_arguments(rest)
    runs = [job.run for job in expand(names[0], selected, overrides, COMPOSER).jobs]
    assert runs and {run.scale for run in runs} == {1.0}
    with pytest.raises(ConfigError, match="one of constant, cosine, early, one_cycle, step"):
        build_run(compose_config([*words, "train.lr_schedule=earl"]))


@pytest.mark.parametrize(
    ("word", "way_out"),
    [
        ("+seed=1", "write seed=1"),
        ("~density", "write density"),
        ("+lr=0.1", "write train.lr=0.1"),
        ("+model.width=8", "write model.width=8"),
        ("+experiment=a", "there is no experiment, so leave it out"),
        ("+my.own=3", "there is no my, so leave it out"),
    ],
)
def test_the_way_out_of_a_key_with_a_sign_is_a_word_that_works(word: str, way_out: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(way_out)):
        check_overrides([word])


@pytest.mark.parametrize(
    ("word", "guess"),
    [("pruning", "theory/pruning"), ("theory/premis", "theory/premise"), ("grap", "grasp")],
)
def test_unknown_methods_are_told_the_theory_experiments_too(word: str, guess: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config([f"method={word}"])
    message = str(caught.value)
    assert message.startswith(f"method={word} is not a choice: ")
    folder = CONF / "method"
    names = {
        path.relative_to(folder).with_suffix("").as_posix()
        for path in folder.rglob("*.yaml")
        if path.parent.name != "base"
    }
    listed = message.partition("choice: ")[2].partition(";")[0].split(", ")
    assert len(listed) == len(names) and set(listed) == names
    assert message.endswith(f"did you mean {guess!r}?")


def test_an_unknown_launcher_is_compared_with_launchers() -> None:
    with pytest.raises(ConfigError, match="hydra/launcher=slrum is not a choice: .*'slurm'"):
        compose_config(["hydra/launcher=slrum"])


NO_EFFECT = {
    "method=imc start=dense method.wstar.epochs=abc": "only start=wstar reads it, and this run has"
    " start=dense; add start=wstar, or leave method.wstar.epochs out",
    "method=imc retrain=finetune method.wstar.rewind_epoch=5": "retrain=lr_rewind|rewind reads it",
    "method=snip density=0.1 start=dense start.finetune.lr_factor=0.5": "only retrain=finetune",
    "method=snip density=0.1 start=dense retrain=finetune start.rewind=5ep": "retrain=lr_rewind",
    "method=sr_popup density=0.1 method.tuning.epochs=3": "retrain=none leaves out stage 'train'",
    "method=sr_popup density=0.1 start=init train.lr=0.3": "sets lr itself; set method.lr",
    "method=imp density=0.5 retrain=finetune method.rewind=5ep": "lr_rewind|rewind reads it",
    "method=theory/recovery dataset=gaussian_teacher model=student train.lr=0.3": "no stage of",
    # methods with settings per data set, which the configuration looks up by a resolver
    "method=rigl density=0.1 start.rewind=5ep": "retrain=lr_rewind|rewind reads it",
}


def idle(words: list[str]) -> dict[str, str]:
    return unread(COMPOSER.plain(words), words)


@pytest.mark.parametrize("line", NO_EFFECT)
def test_a_value_that_no_stage_reads_is_named_with_the_choice_that_makes_it_so(line: str) -> None:
    words = line.split()
    assert list(idle(words)) == [words[-1]]
    (message,) = idle(words).values()
    assert message.startswith(f"{words[-1]} has no effect: ") and NO_EFFECT[line] in message
    key = words[-1].partition("=")[0]
    assert message.endswith(f", or leave {key} out")


@pytest.mark.parametrize(
    "line",
    [
        "method=imc method.wstar.epochs=12",
        "method=imc start=dense train.lr=0.3",
        "method=imc method.gap.rule=fixed method.gap.sparsity=0.5",
        "method=imp density=0.5 method.rewind=5ep source=normal source.batch_size=9",
        "method=flow_prune density=0.5 method.rounds=3 train.lr=0.2 model.init=fan_out",
        "method=snip density=0.1 method.score.batches=2 allocate=smart_ratio allocate.linear=0.4",
        "method=sr_popup density=0.1 retrain=finetune method.tuning.epochs=3",
        "method=wstar portrait=lipschitz portrait.p=5",
        "method=snip density=0.1 dataset.augment=crop_flip train_fraction=0.5 env.threads=1",
    ],
)
def test_values_that_reach_a_stage_are_accepted(line: str) -> None:
    assert idle(line.split()) == {}


def test_a_value_without_effect_on_some_rows_is_left_out_of_their_commands() -> None:
    shared = "method.wstar.rewind_epoch=5"
    cells = expand("imc_figure05", {"seeds": ["0"]}, [], COMPOSER).cells.values()
    rewound = [
        any(shared in job.overrides for job in cell.jobs)
        for cell in cells
        if shared in cell.unread or any(shared in job.overrides for job in cell.jobs)
    ]
    assert True in rewound and False in rewound
    for cell in cells:
        for job in cell.jobs:
            assert idle(list(job.overrides)) == {}
            assert compose_run(*job.overrides) == job.run


def test_a_value_without_effect_on_every_row_of_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.warmup=3ep has no effect: no stage of"):
        expand("samples_figure04", {"seeds": ["0"]}, ["train.warmup=3ep"], COMPOSER)


def test_a_value_is_refused_in_a_sweep_only_if_no_job_reads_it(tmp_path: Path) -> None:
    folders = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache")]
    sweep = ["method=imc", "start=dense,wstar", "method.wstar.epochs=12", "model=mlp", *folders]
    check_sweep(sweep, plans=False)
    with pytest.raises(ConfigError, match="no effect: only start=wstar") as caught:
        check_sweep(["start=dense" if "start=" in w else w for w in sweep], plans=True)
    assert len(caught.value.messages) == 1


def test_each_job_of_a_sweep_is_checked_with_its_data_before_the_first(tmp_path: Path) -> None:
    folders = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache")]
    sweep = ["method=snip", "density=0.5", "model=mlp", "source=balanced", *folders]
    with pytest.raises(ConfigError) as caught:
        check_sweep([*sweep, "train_fraction=0.1", "source.per_class=5,100"], plans=False)
    (message,) = caught.value.messages
    assert message.startswith("source.per_class=100: class ") and "source=train" in message


def test_a_typing_error_beside_an_own_folder_gives_the_usual_message(tmp_path: Path) -> None:
    own = with_search_path(["--config-dir", str(own_folder(tmp_path))])
    for wrong, message in (
        ("densty=0.1", "did you mean 'density'"),
        ("method=mne", "did you mean 'mine'"),
        ("experiment=a", "write \\+experiment=a"),
    ):
        with pytest.raises(ConfigError, match=message):
            compose_config([*own, wrong])
    with pytest.raises(ConfigError, match="there is no such folder"):
        with_search_path(["--config-dir", "x" * 5000])
    with pytest.raises(ConfigError, match="there is no such folder"):
        with_search_path(["--config-dir", str(tmp_path / "none")])


def test_a_name_of_an_own_file_cannot_leave_the_results(tmp_path: Path) -> None:
    folder = own_folder(tmp_path)
    file = folder / "method" / "mine.yaml"
    for name in ("../x", "a/b", ".x", ""):
        file.write_text(file.read_text().replace("name: mine", f"name: '{name}'"))
        words = with_search_path(["--config-dir", str(folder)])
        with pytest.raises(ConfigError, match="method.name="):
            compose_run(*words, "method=mine", "density=0.3")
        file.write_text(file.read_text().replace(f"name: '{name}'", "name: mine"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("imc_table01@digits seed=0", "write seeds=0"),
        ("imc_table01@digits seeds=0 seeds=1", "seeds=0 and seeds=1"),
        ("imc_table01@digits --seeds=0", "values have no dashes"),
    ],
)
def test_arguments_of_tables_that_would_have_no_effect_are_refused(
    words: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arguments(words.split())


def test_a_misspelt_method_of_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="method=snipp is not a choice.*did you mean 'snip'"):
        expand("imc_table01@digits", {"seeds": ["0"]}, ["method=snipp"], COMPOSER)


@pytest.mark.parametrize("name", ["../model/mlp", "x" * 5000, "a\0b"])
def test_a_schedule_is_a_file_of_its_own_folder(name: str) -> None:
    with pytest.raises(ConfigError, match=r"must be one of constant, cosine, one_cycle, step"):
        named_part(LR_SCHEDULE, name, "train.lr_schedule")
