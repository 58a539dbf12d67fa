"""All kinds of faults, in the order of the table."""

from collections.abc import Sequence

from runner.faults.damages import CacheDamage, CheckpointDamage, ResultDamage, TicketDamage
from runner.faults.data import DataDamage, FormatDamage
from runner.faults.disks import FileLimit, SmallDisk, Terminal, Unwritable
from runner.faults.fuzz import InProcess, ThroughCommand
from runner.faults.hostile import Archives, Labels, Pickles
from runner.faults.kills import Kills
from runner.faults.kind import Kind
from runner.faults.launchers import BasicKills, QueueKills, TorchrunKills
from runner.faults.slurm import SlurmKills
from runner.faults.together import Removal, Together

KINDS: Sequence[Kind] = (
    Kills(),
    BasicKills(),
    QueueKills(),
    TorchrunKills(),
    SlurmKills(),
    CacheDamage(),
    TicketDamage(),
    CheckpointDamage(),
    ResultDamage(),
    DataDamage(),
    FormatDamage(),
    FileLimit(),
    SmallDisk(),
    Unwritable(),
    Terminal(),
    Together(),
    Removal(),
    Pickles(),
    Archives(),
    Labels(),
    InProcess(),
    ThroughCommand(),
)
