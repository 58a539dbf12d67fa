"""A job that is forked from a server equals one that is a process of its own."""

import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from rich.console import Console
from small_jobs import HANGS, plain_slots, small_job
from support import compose_run, machine

from runner.engine.record import comparable
from runner.launch.forked import Forked
from runner.launch.forks import READ_LATE, Forks, is_script
from runner.launch.jobs import QueueJob, Running, environment_of, start
from runner.launch.queue import run_queue
from runner.launch.slots import Slot
from runner.launch.sweep import make_job
from runner.records.folders import read_record

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks of torch need Linux")
THREE = Slot({"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": ""})
# What a job can notice of its process. sys.path without the entries of other folders' plugins.
STATE = """
import gc, locale, multiprocessing, random, threading
opened = [pathlib.Path("/proc/self/fd", n) for n in os.listdir("/proc/self/fd")]
descriptors = {each.name: str(each.readlink()) for each in opened if each.exists()}
stat = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
handlers = {n.name: str(signal.getsignal(n)) for n in signal.Signals}
streams = [(s.encoding, s.errors, s.line_buffering) for s in (sys.stdin, sys.stdout, sys.stderr)]
limits = {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n[:7] == "RLIMIT_"}
tasks = len(os.listdir("/proc/self/task"))
import numpy, torch, threadpoolctl
from hydra.core.global_hydra import GlobalHydra
pools = [(p["internal_api"], p["num_threads"]) for p in threadpoolctl.threadpool_info()]
product = numpy.random.RandomState(0).rand(300, 300)
done(
    arguments=sys.argv, name=__name__, file=__file__, path=sys.path, folder=os.getcwd(),
    shown=pathlib.Path("/proc/self/cmdline").read_bytes().decode(),
    parent=os.getppid(), own=[os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    descriptors=descriptors, umask=status["Umask"], blocked=status["SigBlk"],
    ignored=status["SigIgn"], handlers=handlers, streams=streams, limits=limits,
    cores=sorted(os.sched_getaffinity(0)), nice=os.nice(0), environment=dict(os.environ),
    tasks=tasks, alive=[t.name for t in threading.enumerate()], locale=locale.getlocale(),
    process=multiprocessing.current_process().name, switch=sys.getswitchinterval(),
    collector=[gc.isenabled(), gc.get_threshold()], hydra=GlobalHydra.instance().is_initialized(),
    types=str(torch.get_default_dtype()), 
    threads=torch.get_num_threads(), pools=sorted(set(pools)),
    cuda=torch.cuda.is_initialized(),
    product=(product @ product).sum().hex(), values=numpy.linalg.eigvalsh(product)[:3].tolist(),
    sum=torch.linspace(0, 1, 1 << 20).sum().item().hex(), grad=torch.is_grad_enabled(),
)
"""
DRAWS = """
import numpy, random, torch, uuid
done(draws=[torch.rand(()).item(), numpy.random.rand(), random.random(), uuid.uuid4().hex])
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    late = {*READ_LATE, "PYTEST_CURRENT_TEST"}  # which names the test and its part
    with Forks(environment_of(THREE), late=late.__contains__) as server:
        yield server


def forked(job: QueueJob, slot: Slot, forks: Forks) -> Running:
    forks.wait()
    running = start(job, [slot], forks)
    assert isinstance(running.process, Forked)
    return running


def ended(running: Running) -> int:
    running.process.wait(HANGS)
    return running.finish().code


def result(job: QueueJob) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.folder / "result.json").read_text())
    return {name: value for name, value in found.items() if name not in ("started", "ended")}


def test_a_fork_has_the_state_of_a_process_of_its_own(forks: Forks, tmp_path: Path) -> None:
    job = small_job(tmp_path, "job", STATE, script=True)
    assert ended(start(job, [THREE])) == 0, job.log.read_text()
    alone = result(job)
    assert ended(forked(job, THREE, forks)) == 0, job.log.read_text()
    found = result(job)
    # the line after the interpreter's name is padded
    words = [each.pop("shown").split("\0")[1:] for each in (alone, found)]
    assert words[0] == [*job.command[1:], ""] and words[1][:3] == words[0]
    assert not any(words[1][3:])
    assert {name: value for name, value in found.items() if value != alone[name]} == {}
    assert found["parent"] == os.getpid() and found["descriptors"].keys() == {"0", "1", "2"}


def test_forks_share_no_random_state(forks: Forks, tmp_path: Path) -> None:
    jobs = [small_job(tmp_path, f"job{i}", DRAWS, script=True) for i in range(2)]
    assert [ended(forked(job, THREE, forks)) for job in jobs] == [0, 0]
    one, other = (result(job)["draws"] for job in jobs)
    assert all(a != b for a, b in zip(one, other, strict=True))


ENDS = {
    "an exit code": "print('one'); sys.exit(7)",
    "a negative exit code": "sys.exit(-1)",
    "a text": "sys.exit('failed: why')",
    "no code": "sys.exit()",
    "the end": "print('unfinished', end='')",
    "an exception": "print('before'); raise RuntimeError('broken')",
    "a signal": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    # a background job of a shell, such as this one may be, ignores it
    "SIGINT": (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(HANGS)"
    ),
    "exit functions": "import atexit; atexit.register(print, 'last'); print('first')",
    "a thread": (
        "import threading\\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()"
    ).replace("\\n", "\n"),
    "a child": "subprocess.run(['echo', 'child']); print(os.fork() and os.wait()[1])",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_fork_ends_like_a_process_of_its_own(how: str, forks: Forks, tmp_path: Path) -> None:
    job = small_job(tmp_path, "job", ENDS[how], script=True)
    codes = [ended(start(job, [THREE])), ended(forked(job, THREE, forks))]
    _, alone, found = job.log.read_text().split("==== ")
    lines = [text.splitlines()[1:] for text in (alone, found)]
    assert codes[0] == codes[1] and lines[0] == lines[1]


def test_a_job_outlives_its_server_which_is_replaced_when_killed_or_outdated(
    tmp_path: Path,
) -> None:
    (tmp_path / "source").touch()
    with Forks(environment_of(THREE), watched=[tmp_path / "source"]) as own:
        first = small_job(tmp_path, "first", "until('go'); done()", script=True)
        running = forked(first, THREE, own)
        killed = own.server
        assert killed is not None
        os.kill(killed.process.pid, signal.SIGKILL)
        killed.process.wait()
        # it was ready before: the job that finds it dead is not lost
        second = small_job(tmp_path, "second", "done()", script=True)
        alone = start(second, [THREE], own)
        assert not isinstance(alone.process, Forked) and ended(alone) == 0 and second.done()
        third = small_job(tmp_path, "third", "done()", script=True)
        assert ended(forked(third, THREE, own)) == 0 and third.done()
        (tmp_path / "go").touch()
        assert ended(running) == 0 and first.done()
        replaced = own.server
        assert replaced is not killed and own.ready() and own.server is replaced
        (tmp_path / "source").write_text("changed")
        assert not own.ready() and own.server is not replaced and not own.refusal


def test_a_variable_that_is_read_early_requires_a_process_of_its_own(
    forks: Forks, tmp_path: Path
) -> None:
    forks.wait()
    job = small_job(tmp_path, "job", "done(found=dict(os.environ))", script=True)
    for name, value, forkable in (
        ("CUDA_VISIBLE_DEVICES", "3", True),
        ("OMP_NUM_THREADS", "2", False),
        ("PYTHONOPTIMIZE", "1", False),
        ("ANY", "thing", False),
    ):
        running = start(job, [Slot({**THREE.environment, name: value})], forks)
        assert isinstance(running.process, Forked) is forkable
        assert ended(running) == 0 and result(job)["found"][name] == value


def test_only_scripts_without_options_of_python_are_forked() -> None:
    assert is_script((sys.executable, "run.py", "seed=1"))
    for other in (
        (sys.executable,),
        (sys.executable, "-O", "run.py"),
        (sys.executable, "-c", "pass"),
        ("sh", "run.py"),
    ):
        assert not is_script(other)


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        (
            "sitecustomize",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True)"
            ".start()",
            "the imports start 1 threads",
        ),
        ("hydra", "raise ValueError", "it ended with exit code 1"),
    ],
    ids=["threads", "an error"],
)
def test_where_forks_fail_jobs_are_processes_and_a_note_says_why(
    module: str, source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / f"{module}.py").write_text(source)
    path = os.pathsep.join([str(tmp_path / "stub"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    shown = io.StringIO()
    jobs = [small_job(tmp_path, f"job{i}", "done()", script=True) for i in range(3)]
    outcomes = run_queue(jobs, plain_slots(2), Console(file=shown, width=200))
    assert [outcome.failed for outcome in outcomes] == [False] * 3
    (note,) = [line for line in shown.getvalue().splitlines() if line.startswith("note: ")]
    assert note.endswith(reason)


METHODS: Mapping[str, tuple[str, ...]] = {
    "snip": ("density=0.3",),
    "imc": ("method.spectrum.probes=1", "method.spectrum.steps=3", "method.gap.steps=3"),
}


def test_records_of_forks_equal_those_of_processes_bit_for_bit(tmp_path: Path) -> None:
    found = {}
    for name in ("forks", "processes"):
        where, jobs = machine(tmp_path / name), []
        for method, options in METHODS.items():
            words = [f"method={method}", *options, *SMALL, "env.memory_gb=1"]
            jobs.append(make_job(compose_run(*words), where, words))
        slots = [Slot({"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})]
        ended = run_queue(jobs, slots, Console(file=io.StringIO()), fork=name == "forks")
        assert [outcome.message for outcome in ended if outcome.failed] == []
        found[name] = {job.name: (job, read_record(job.folder)) for job in jobs}
    for name, (job, record) in found["forks"].items():
        other, plain = found["processes"][name]
        assert record is not None and plain is not None
        assert comparable(record) == comparable(plain)
        for file in ("metrics.jsonl", "config.yaml"):
            one, two = (each.folder / file for each in (job, other))
            assert one.read_text().replace("/forks/", "/processes/") == two.read_text()
        times = ("started", "finished", "checksum")  # the latter is that of the whole record
        own, theirs = (
            {key: value for key, value in each["provenance"].items() if key not in times}
            for each in (record, plain)
        )
        own["command"] = own["command"].replace("/forks/", "/processes/")
        assert own == theirs and "run.py" in own["command"]
