"""Hostile files: pickles that run code, archives that leave their folder, markup in labels."""

import hashlib
import io
import json
import pickle
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import torch

from runner.faults.cases import Home, Stock, discard
from runner.faults.kills import judged
from runner.faults.kind import Part
from runner.faults.lab import ROOT, call, run, start_program, typed
from runner.faults.trial import Trial, Verdict, classify, worst
from runner.tables.leads import Lead, Leads

MARKER = "code-was-run"
MEMBERS = ("../{}", "../../{}", "/{}", "link/{}")
LABELS = (
    "<script>alert(1)</script>",
    "[/nope]",
    "[red]x[/red]",
    "\x1b[2J\x1b[31mred",
    "{{7*7}}",
    "a\\\\b|c&d$e_f%g#h",
    "\u202egnp.exe",
    "\U0001f40d \u00e9",
    "x" * 3000,
)


class Bomb:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.marker, "the pickle ran code\n")


@dataclass(frozen=True)
class Pickles:
    """Pickles that run code, as weights and as a checkpoint."""

    name: ClassVar[str] = "pickles"
    title: ClassVar[str] = "pickles that run code, as weights, checkpoints and data"
    planned: ClassVar[int] = 24

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each file."""
        while True:
            case = stock.draw(rng)
            half = stock.half_done(case)
            home = half or stock.empty()
            marker, alone = home.folder / MARKER, stock.alone(case)
            checkpoints = sorted(home.cache.glob("checkpoints/*.pt"))
            if checkpoints and rng.random() < 0.5:
                bomb(checkpoints[0], marker, rng)
                ended = run([*case.words, *home.words], home.folder)
                verdict, message = judged(ended, home, {alone.identity: alone.record})
                yield self._trial("a checkpoint", marker, verdict, typed(case.words), message)
            else:
                suffix = rng.choice([".pt", ".pth", ".bin", ".safetensors", ".ckpt", ""])
                file = home.folder / f"weights{suffix}"
                bomb(file, marker, rng)
                # the methods that start from a trained net take weights
                words = [*case.words, f"start.weights={file}"]
                ended = run([*words, *home.words], home.folder)
                verdict = classify(ended, same=False)
                message = "" if verdict == Verdict.REFUSED else ended.last_line
                what = f"start.weights=*{suffix}"
                yield self._trial(what, marker, verdict, typed(words), message)
            discard(home)

    def _trial(self, what: str, marker: Path, verdict: Verdict, line: str, message: str) -> Trial:
        if marker.exists():
            return Trial(self.title, what, Verdict.UNEQUAL, line, "the pickle ran code")
        return Trial(self.title, what, verdict, line, message)


def bomb(file: Path, marker: Path, rng: Random) -> None:
    """Write a pickle that runs code: plain, or in torch's format."""
    if rng.random() < 0.5:
        file.write_bytes(pickle.dumps(Bomb(marker)))
    else:
        torch.save({"state_dict": Bomb(marker)}, file)


@dataclass(frozen=True)
class Archives:
    """Archives with members outside the folder into which they are unpacked."""

    name: ClassVar[str] = "archives"
    title: ClassVar[str] = "archives with ../, absolute and linked members"
    planned: ClassVar[int] = 8

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each archive."""
        while True:
            for suffix, member in part.of(list(product((".zip", ".tar.gz"), MEMBERS))):
                home = stock.empty()
                yield self._trial(home, suffix, member)
                discard(home)

    def _trial(self, home: Home, suffix: str, member: str) -> Trial:
        inside, outside = home.folder / "in" / "data", home.folder / "out"
        inside.mkdir(parents=True)
        outside.mkdir()
        file = inside / f"archive{suffix}"  # where a download would put it
        name = member.format(MARKER)
        if member.startswith("/"):
            name = str(outside / MARKER)
        pack(file, name, outside)
        ended = call(unpack, (str(file),), home.folder).wait()
        escaped = [path for path in home.folder.rglob(MARKER) if inside not in path.parents]
        verdict = Verdict.UNEQUAL if escaped else classify(ended, same=True)
        message = f"{escaped[0]} was written" if escaped else ended.last_line
        return Trial(self.title, f"{suffix} with {member.format('x')}", verdict, "", message)


def pack(file: Path, name: str, outside: Path) -> None:
    """Write an archive with one member of that name; `link` in it points outside."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr(name, "escaped\n")
        return
    with tarfile.open(file, "w:gz") as tar:
        if name.startswith("link/"):
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, str(outside)
            tar.addfile(link)
        info = tarfile.TarInfo(name)
        content = b"escaped\n"
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def unpack(file: str) -> None:
    """Unpack an archive as a data set does after its download. A refusal is one message."""
    from runner.data.sources import Archive

    path = Path(file)
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    try:
        Archive(f"http://localhost/{path.name}", md5).fetch(path.parent)
    except (OSError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
        raise SystemExit(f"failed: {path.name}: {error}") from None


@dataclass(frozen=True)
class Labels:
    """Markup, HTML and control characters in labels and messages."""

    name: ClassVar[str] = "labels"
    title: ClassVar[str] = "markup, HTML and control characters in labels, and the html report"
    planned: ClassVar[int] = 18

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each label: a run, and a page of results that contain it."""
        while True:
            for label in part.of(LABELS):
                case, home = stock.draw(rng), stock.empty()
                quoted = label.replace("\\", "\\\\").replace("'", "\\'")
                words = [*case.words, f"method.label='{quoted}'"]
                ended = run([*words, *home.words], home.folder)
                verdict = classify(ended, same=bool(home.records()))
                message = "" if verdict == Verdict.EQUAL else ended.last_line
                if "\x1b" in ended.output:
                    verdict, message = Verdict.UNEQUAL, "a control character reached the terminal"
                page, text = self._page(home, label)
                yield Trial(
                    self.title,
                    f"label {label[:40]!r}",
                    worst([verdict, page]),
                    typed(words),
                    message or text,
                )
                discard(home)

    def _page(self, home: Home, label: str) -> tuple[Verdict, str]:
        """The html report over a record and a table whose texts are that label."""
        for path in home.results.glob("runs/*/result.json"):
            text = path.read_text()
            path.write_text(re.sub(r'("device_name": )"[^"]*"', rf"\1{_json(label)}", text))
        tables = home.results / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        stem = sorted((ROOT / "conf" / "table").glob("*.yaml"))[0].stem
        (tables / f"{stem}.html").write_text("<main><table><tr><td>1 [2]</td></tr></table></main>")
        found = tuple(path.parent.name for path in home.results.glob("runs/*/result.json"))
        leads = Leads(stem, label, (label,), label, (Lead(label, found, todo=(label,)),))
        (tables / f"{stem}.json").write_text(leads.as_json(), encoding="utf-8")
        quoted = '"' + label.replace('"', '""') + '"'
        claims = f"claim,what was measured,interval,holds\n{quoted},{quoted},–,open\n"
        (tables / f"{stem}.claims.csv").write_text(claims, encoding="utf-8")
        script = [sys.executable, str(ROOT / "scripts" / "report.py"), home.words[0]]
        ended = start_program(script, home.folder).wait()
        report = home.results / "report.html"
        if ended.code == 0 and "<script>alert" in report.read_text(encoding="utf-8"):
            return Verdict.UNEQUAL, "the report contains the label's HTML as it is"
        verdict = classify(ended, same=True)
        return verdict, "" if verdict == Verdict.EQUAL else f"report: {ended.last_line}"


def _json(text: str) -> str:
    """Text as a JSON string, for the replacement of a regular expression."""
    return json.dumps(text).replace("\\", "\\\\")
