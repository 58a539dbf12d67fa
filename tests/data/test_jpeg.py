"""Fast decoding against Pillow, and the threads that decode."""

import io
import os
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator
from torchvision.transforms import v2

from runner.bench.decoding import photograph
from runner.data import files as files_module
from runner.data.base import DataError
from runner.data.decoders import decoders
from runner.data.files import Files
from runner.data.image_files import as_tensor, rgb
from runner.data.jpeg import central, decoded, scaled
from runner.engine.machine import decoding_threads
from runner.faults.made import noise_picture
from runner.processes import cores


def made_files(folder: Path) -> dict[str, Path]:
    """Files of every kind that ImageNet has, and more, under names of JPEGs."""
    picture, paths = photograph(0, 250, 188), {}
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    for name, image, options in (
        ("plain", picture, {}),
        ("best", picture, {"quality": 100, "subsampling": 0}),
        ("progressive", picture, {"progressive": True}),
        ("grey", picture.convert("L"), {}),
        ("cmyk", picture.convert("CMYK"), {}),
        ("exif", picture, {"exif": exif}),
        ("png", picture, {"format": "PNG"}),
        ("alpha", picture.convert("RGBA"), {"format": "PNG"}),
    ):
        paths[name] = folder / f"{name}.JPEG"
        image.save(paths[name], **options)
    return paths


def test_every_kind_of_file_has_the_pixels_of_pillow_with_exif_rotation_ignored(
    tmp_path: Path,
) -> None:
    for name, path in made_files(tmp_path).items():
        shown = decoded(path)
        assert shown.shape == (1 if name == "grey" else 3, 188, 250)
        assert torch.equal(shown.expand(3, -1, -1), as_tensor(rgb(path))), name


@pytest.mark.parametrize("harm", ["cut", "middle", "head", "empty", "text", "gone"])
def test_a_damaged_file_gives_the_message_of_pillow(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "a.JPEG"
    photograph(0, 250, 188).save(path)
    content = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    else:
        changed = {
            "cut": content[:-500],
            "middle": content[: len(content) // 2],
            "head": content[:20],
            "empty": b"",
            "text": b"hello",
        }[harm]
        path.write_bytes(changed)
    messages = []
    for read in (rgb, decoded):
        with pytest.raises(DataError) as caught:
            read(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and str(path) in messages[0]


def test_whatever_byte_of_a_jpeg_changes_it_is_read_or_named(tmp_path: Path) -> None:
    draws, path, buffer = np.random.default_rng(0), tmp_path / "a.JPEG", io.BytesIO()
    noise_picture(3).save(buffer, "JPEG")
    intact = buffer.getvalue()
    for _ in range(60):
        content = bytearray(intact)
        content[draws.integers(2, len(content))] = draws.integers(256)
        path.write_bytes(content)
        try:
            assert decoded(path).dtype == torch.uint8
        except DataError as error:
            assert str(path) in error.problem


def test_scaled_photographs_differ_from_pillows_by_two_at_most() -> None:
    apart = []
    for number in range(6):
        image = photograph(number, 250, 188)
        for box in ((10, 20, 210, 170), (0, 0, 250, 188), (100, 50, 160, 110)):
            left, top, right, bottom = box
            theirs = image.crop(box).resize((112, 112), Image.Resampling.BILINEAR)
            ours = scaled(as_tensor(image)[:, top:bottom, left:right], 112, 112)
            apart.append((ours.int() - as_tensor(theirs).int()).abs())
        exact = v2.functional.resize(as_tensor(image), [128], antialias=True)
        assert torch.equal(central(as_tensor(image), 128, 112), exact[:, 8:120, 29:141])
    differences = torch.stack(apart).float()
    assert int(differences.max()) <= 2 and float(differences.mean()) < 0.02


def test_a_grey_image_is_scaled_as_its_three_equal_channels() -> None:
    grey = as_tensor(photograph(0, 250, 188).convert("L").convert("RGB"))
    assert torch.equal(scaled(grey[:1], 50, 60).expand(3, -1, -1), scaled(grey, 50, 60))


@pytest.fixture
def many(tmp_path: Path) -> Files:
    """Forty images; the label of each is its number."""
    for number in range(40):
        noise_picture(number).save(tmp_path / f"{number}.JPEG")
    names = np.array([f"{number}.JPEG".encode() for number in range(40)])
    return Files(tmp_path, names, torch.arange(40), size=16)


def wanted(files: Files, batch: int = 5) -> list:
    rng = Generator().manual_seed(0)
    return [(indices, files.draws(len(indices), rng)) for indices in torch.arange(40).split(batch)]


def test_threads_give_the_batches_of_the_caller_and_have_one_thread_of_torch_each(
    many: Files,
) -> None:
    before = torch.get_num_threads()
    alone = list(many.read(wanted(many), "resized_crop"))
    together = list(many.to("cpu", 3).read(wanted(many), "resized_crop"))
    for (x, y), (other, labels) in zip(alone, together, strict=True):
        assert torch.equal(x, other) and torch.equal(y, labels)
    assert torch.get_num_threads() == before
    assert decoders(3).submit(torch.get_num_threads).result() == 1
    fresh: list[int] = []
    later = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert fresh == [before]


def test_the_threads_live_as_long_as_the_process(many: Files) -> None:
    for _ in range(3):
        list(many.to("cpu", 2).read(wanted(many), "resized_crop"))
        found = {thread for thread in threading.enumerate() if thread in decoders(2)._threads}
        assert found == decoders(2)._threads and len(found) == 2


def test_a_bounded_number_of_batches_is_decoded_ahead_and_the_rest_is_left_out(
    many: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "PIECE", 1)
    asked: list[int] = []

    def counted() -> object:
        for number, each in enumerate(wanted(many, 1)):
            asked.append(number)
            yield each

    reader = many.to("cpu", 2).read(counted(), "resized_crop")
    assert len(list(islice(reader, 4))) == 4
    # two batches, and two images for each of two threads, after the one that was asked for
    assert len(asked) == 4 + max(files_module.AHEAD, files_module.AHEAD * 2)
    reader.close()
    time.sleep(0.01)
    assert len(asked) == 8


def test_a_damaged_file_ends_the_reading_with_one_message_in_its_batch(many: Files) -> None:
    (many.folder / "12.JPEG").write_bytes(b"no image")
    found = []
    with pytest.raises(DataError, match=r"12.JPEG is not an intact JPEG or PNG"):
        for _, labels in many.to("cpu", 2).read(wanted(many), "none"):
            found += labels.tolist()
    assert found == list(range(10))


def test_a_fork_has_threads_of_its_own(many: Files) -> None:
    first = [x for x, _ in many.to("cpu", 2).read(wanted(many), "resized_crop")]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            again = many.to("cpu", 2).read(wanted(many), "resized_crop")
            status = int(not all(torch.equal(x, y) for x, (y, _) in zip(first, again, strict=True)))
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_the_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoding_threads(3) == 3 and decoding_threads(40) == 16
    assert decoding_threads(None) == min(16, torch.get_num_threads())
    for name, value in (
        *(("RANK", "1"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")),
        *(("MASTER_ADDR", "here"), ("MASTER_PORT", "1")),
    ):
        monkeypatch.setenv(name, value)
    assert decoding_threads(None) == min(16, max(1, cores() // 2))
    assert decoding_threads(5) == 5
