"""The commands of `winnow`: their help, and the functions that run them.

A function is imported when its command runs, so that help needs no torch.
"""

import importlib
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command of `winnow`.

    Args:
        module, function: what runs it: the words after its name -> exit code.
        summary: one line.
        usage: the rest of its help: how to type it, and what its words mean; empty if the function
            prints its own.
        console: whether the function takes a console, too.
    """

    name: str
    module: str
    function: str
    summary: str
    usage: str = ""
    console: bool = True

    @property
    def present(self) -> bool:
        """Whether this version has it."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def help(self) -> str:
        """The text of `winnow NAME --help`; it fits a screen of 24 lines."""
        return f"winnow {self.name}: {self.summary}.\n\n{self.usage}\n"

    def run(self, words: list[str]) -> int:
        """Run it; its exit code."""
        work = getattr(importlib.import_module(self.module), self.function)
        if not self.console:
            return int(work(words))
        from runner.console import console

        return int(work(words, console()))


TABLES = """\
  TABLE is the name of a table or figure, e.g. imc_table01, or of one on another data set,
  imc_table01@digits. Further words:
    seeds=0,1,2 models=resnet20   some of its seeds and networks
    columns=val_accuracy          further columns
    table.KEY=VALUE               an option of the table
    KEY=VALUE                     an override for every run, e.g. train.scale=0.1
    --config-dir DIR              parts of your own (docs/command_line.md)"""
LISTED = (
    Command(
        "run",
        "run",
        "run_words",
        "run one experiment, or a sweep",
        """\
  winnow run method=METHOD density=0.1 dataset=fashion_mnist train_fraction=0.1
  winnow run -m method=METHOD,METHOD density=0.5,0.1 seed=0,1,2 [hydra/launcher=gpu_queue]
  winnow run --again RUN_ID       a finished or published run, as it was

  GROUP=NAME chooses (dataset, model, method, train, start, retrain, ...), KEY=VALUE sets.
  density=D    kept / prunable in (0, 1]      seed=N           every random stream
  train.scale=S   factor of every duration    env.plan=true    print the plan, run nothing
  env.results_dir=DIR env.cache_dir=DIR env.data_dir=DIR       folders
  --config-dir DIR    parts of your own (docs/command_line.md)

  winnow run --choices     all choices and values
  winnow run ... --cfg job [--resolve]   the configuration that a command line gives""",
        console=False,
    ),
    Command(
        "plan",
        "runner.commands.plan",
        "show_plan",
        "print the state and cost of the runs of tables and figures; run nothing",
        f"  winnow plan TABLE [TABLE ...] [KEY=VALUE ...]\n\n{TABLES}",
    ),
    Command(
        "reproduce",
        "runner.commands.reproduce",
        "reproduce",
        "run what tables and figures lack, then print them",
        f"""\
  winnow reproduce TABLE [TABLE ...] [KEY=VALUE ...]

{TABLES}
    slots=2 on_error=stop         options of the queue, or hydra/launcher=slurm
  Repeat the command after a crash or Ctrl-C; it does the rest.""",
    ),
    Command(
        "tables",
        "runner.commands.tables",
        "print_tables",
        "print tables from records and write them; run nothing",
        f"  winnow tables [TABLE ...] [KEY=VALUE ...]     or those with records\n\n{TABLES}",
        console=False,
    ),
    Command(
        "figures",
        "runner.commands.figures",
        "draw_figures",
        "draw figures from records; run nothing",
        f"  winnow figures [FIGURE ...] [KEY=VALUE ...]     or those with records\n\n{TABLES}",
        console=False,
    ),
    Command(
        "settings",
        "runner.commands.settings",
        "show_settings",
        "print our settings beside those of the papers; run nothing",
        f"""\
  winnow settings [TABLE ...] [KEY=VALUE ...]     a summary, if none is named

{TABLES}""",
        console=False,
    ),
    Command(
        "report",
        "runner.commands.report",
        "report",
        "write one page of all tables, figures and verdicts",
        """\
  winnow report [env.results_dir=DIR]

  The page is DIR/report.html. It has what reproduce, tables and figures have written there, and
  the published tables and figures.""",
    ),
    Command(
        "publish",
        "runner.commands.publish",
        "publish",
        "publish the records and pages of tables and figures",
        """\
  winnow publish TABLE [KEY=VALUE ...]                          a table or figure
  winnow publish method=METHOD model=lenet5 [KEY=VALUE ...]     a sweep
  winnow publish all                       write the pages of the whole index again

  All runs have to be done, with committed code.""",
    ),
    Command(
        "cache",
        "runner.commands.cache",
        "upkeep",
        "list the contents of the cache and what is unused",
        """\
  winnow cache [TABLE ...] [results=DIR,DIR] [verify=true] [remove=true] [young=HOURS]

  TABLE ...      what these tables need counts as used
  results=DIR    further directories of records
  verify=true    reads everything and compares it with its checksums
  remove=true    removes what is unused and older than HOURS, by default 1""",
    ),
    Command(
        "data",
        "runner.commands.data",
        "main",
        "download a data set if it is missing, and verify it",
        """\
  winnow data DATASET [--data-dir DIR]

  winnow run --choices lists the data sets. DIR is the folder of all data sets; by default the
  variable WINNOW_DATA, else data.""",
        console=False,
    ),
    Command(
        "results",
        "runner.commands.results",
        "write_results",
        "write the numbers of README.md and RESULTS.md from published records",
        "  winnow results\n\n  Their text is in results/templates (docs/records.md).",
    ),
    Command(
        "export",
        "runner.commands.export",
        "main",
        "write a finished run's network and masks for plain PyTorch",
        """\
  winnow export RUN_ID [--format safetensors|torch|prune|pt2] [--at end|rewind|init] [--out DIR]

  safetensors   weights and masks             torch   {'state_dict', 'mask'}
  prune         the names of torch.nn.utils.prune     pt2   the masked network by torch.export
  end           the trained network           init    the initial weights
  rewind        the weights from which the last training began

  Words can also be written as at=init. env.results_dir=DIR and env.cache_dir=DIR say where the run
  is. docs/tickets.md: how to read the files back.""",
        console=False,
    ),
    Command(
        "import",
        "runner.commands.import_",
        "main",
        "merge the records of another machine",
        """\
  winnow import DIR|FILE [DIR|FILE ...] [env.results_dir=DIR]

  DIR|FILE    results, runs, the folder of one run, or a file of packed records (*.jsonl)

  Nothing is overwritten: a record that differs from the one here is kept in conflicts/ of the
  results, and named.""",
        console=False,
    ),
    Command(
        "table",
        "runner.commands.table",
        "table",
        "print any finished runs as a table: mean, deviation and number",
        """\
  winnow table ['results/*' ...] [--rows KEY] [--columns KEY] [--value KEY] [--plot FILE]
  winnow table results --rows method --columns density --value accuracy --where dataset=digits

  PLACE ...          results directories, folders of runs or files of packed records; by default
                     results
  --rows KEY         a field of the record, a finding, or a key of the configuration; by default
                     method
  --columns KEY      likewise; by default density, the requested one
  --value KEY        the number; by default accuracy
  --where KEY=VALUE  only these runs; may be repeated
  --plot FILE        draws it, too: .png, .pdf, .svg""",
    ),
    Command(
        "check",
        "runner.commands.check",
        "check",
        "check a method, network or data set of your own against the contract of all",
        """\
  winnow check method=mine [KEY=VALUE ...]
  winnow check model=mine dataset=mine

  A small run on digits is checked: exact density, zeros that stay zero, equal bits for equal
  seeds, a network that scores leave unchanged, options, identity, data. Words of a run change it.
  --config-dir DIR or the variable WINNOW_PATH names the folder of your own parts. The exit code is
  1 if a check fails.""",
    ),
    Command(
        "rekey",
        "runner.commands.rekey",
        "rekey",
        "convert results and cache of version 0.1.0; compute nothing",
        "  winnow rekey [env.results_dir=DIR] [env.cache_dir=DIR]",
    ),
    Command(
        "bench",
        "runner.bench.run",
        "bench",
        "measure speed as ratios to other implementations in the same run",
        "  winnow bench [rounds=5] [threads=2] [only=NAME,NAME]",
    ),
    Command(
        "faults",
        "runner.faults.run",
        "faults",
        "try kills, damaged files, full disks and invalid input, and print the table",
        """\
  winnow faults [minutes=5] [seed=0] [workers=2] [only=kills,cache] [write=false] [fresh=true]

  docs/faults.md explains the arguments.""",
    ),
    Command(
        "kinds",
        "runner.bench.kinds",
        "kinds",
        "measure how much the kind of CPU changes an accuracy",
        """\
  winnow kinds

  The published runs that results/cpu_kinds.json lists are performed again, with all instruction
  sets of this machine and with AVX2 alone, in some minutes. Needs a checkout without changes;
  writes that file and the table in docs/records.md.""",
    ),
)
COMMANDS = tuple(each for each in LISTED if each.present)
