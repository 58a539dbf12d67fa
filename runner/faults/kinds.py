"""All kinds of faults, in the order of the table."""

from collections.abc import Sequence

from runner.faults.damages import CacheDamage, CheckpointDamage, ResultDamage, TicketDamage
from runner.faults.data import DataDamage
from runner.faults.disks import FileLimit, SmallDisk, Terminal, Unwritable
from runner.faults.fuzz import InProcess, ThroughCommand
from runner.faults.hostile import Archives, Labels, Pickles
from runner.faults.kills import Kills, QueueKills
from runner.faults.kind import Kind
from runner.faults.together import Removal, Together

KINDS: Sequence[Kind] = (
    Kills(),
    QueueKills(),
    CacheDamage(),
    TicketDamage(),
    CheckpointDamage(),
    ResultDamage(),
    DataDamage(),
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
