"""Small copies of ImageNet's images: sizes, pixels, checksums, and a stop on the way."""

import hashlib
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image
from test_data_imagenet import SMALL, TRAIN, WNIDS, SmallImagenet, same
from torchvision.transforms import v2

from runner.bench.decoding import photograph
from runner.data import imagenet_256
from runner.data.base import DataError
from runner.data.batches import evaluation_batches
from runner.data.download import fetch
from runner.data.imagenet_256 import CHECKSUMS, COMPLETE, Imagenet256, copied
from runner.faults.made import write_image_folder


class SmallImagenet256(Imagenet256):
    """Copies of the small ImageNet of other tests."""

    tag: ClassVar[str] = "small_imagenet_256"
    native: ClassVar = SMALL
    whole: ClassVar = SmallImagenet


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Three classes of originals, of which two images are larger than the copies."""
    write_image_folder(tmp_path / "imagenet", TRAIN, dict.fromkeys(WNIDS, 3))
    large = tmp_path / "imagenet" / "train" / WNIDS[0]
    photograph(1).save(large / f"{WNIDS[0]}_0.JPEG", quality=95)
    photograph(2).convert("L").save(large / f"{WNIDS[0]}_1.JPEG", quality=95)
    return tmp_path


def made(data_dir: Path) -> dict[str, bytes]:
    folder = data_dir / "imagenet_256"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.glob("*/*/*")}


def test_copies_have_256_pixels_on_the_short_side_and_quality_90(data_dir: Path) -> None:
    SmallImagenet256().copy(data_dir)
    copies = made(data_dir)
    originals = {str(p.relative_to(data_dir / "imagenet")) for p in data_dir.glob("imagenet/*/*/*")}
    assert set(copies) == originals and not (data_dir / "imagenet_256" / COMPLETE).exists()
    inside = f"train/{WNIDS[0]}/{WNIDS[0]}"
    for name in originals - {f"{inside}_0.JPEG", f"{inside}_1.JPEG"}:  # none is scaled up
        assert copies[name] == (data_dir / "imagenet" / name).read_bytes()
    for number, mode in ((0, "RGB"), (1, "L")):
        name = f"{inside}_{number}.JPEG"
        with Image.open(data_dir / "imagenet_256" / name) as image:
            assert (image.size, image.mode) == ((341, 256), mode)
        with Image.open(data_dir / "imagenet" / name) as image:
            exact = v2.functional.resize(v2.functional.pil_to_tensor(image), [256], antialias=True)
        v2.functional.to_pil_image(exact).save(data_dir / "a.jpg", quality=90)
        assert copies[name] == (data_dir / "a.jpg").read_bytes()


def test_the_list_has_the_checksum_of_every_copy_as_sha256sum_writes_it(data_dir: Path) -> None:
    SmallImagenet256().copy(data_dir)
    lines = (data_dir / "imagenet_256" / CHECKSUMS).read_text().splitlines()
    expected = {f"{hashlib.sha256(c).hexdigest()}  {name}" for name, c in made(data_dir).items()}
    assert len(lines) == SMALL.train + SMALL.test and set(lines) == expected


def test_a_stop_on_the_way_continues_with_the_missing_classes(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="imagenet_256 does not exist: make data DATASET="):
        SmallImagenet256().verify(data_dir)
    path = data_dir / "imagenet" / "val" / WNIDS[1] / f"{WNIDS[1]}_2.JPEG"
    intact = path.read_bytes()
    path.write_bytes(b"\xff\xd8\xff damaged")
    with pytest.raises(DataError, match=f"{path.name} is not an intact JPEG"):
        SmallImagenet256().copy(data_dir)
    with pytest.raises(DataError, match="imagenet_256 is not complete: make data DATASET="):
        SmallImagenet256().verify(data_dir)
    path.write_bytes(intact)
    before, written = made(data_dir), list[str]()

    def noting(original: Path) -> bytes:
        written.append(str(original.relative_to(data_dir / "imagenet")))
        return copied(original)

    monkeypatch.setattr(imagenet_256, "copied", noting)
    SmallImagenet256().copy(data_dir)
    # the training classes and the first class of val were complete
    assert set(written) == {f"val/{name}/{name}_{i}.JPEG" for name in WNIDS[1:] for i in range(3)}
    assert all(made(data_dir)[name] == content for name, content in before.items())
    SmallImagenet256().verify(data_dir)


def test_a_run_reads_the_copies_under_a_name_of_their_own(data_dir: Path) -> None:
    SmallImagenet256().copy(data_dir)
    data = SmallImagenet256().load(data_dir, 1.0)
    original = SmallImagenet().load(data_dir, 1.0)
    assert (data.name, original.name) == ("imagenet_256", "imagenet")
    assert data.checksum != original.checksum
    shown, theirs = (
        list(evaluation_batches(d.test, d.mean, d.std, d.scale, 4)) for d in (data, original)
    )
    assert same(shown, theirs)  # test images of this set are smaller than 256 pixels


def test_make_data_asks_for_the_originals_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^dataset=imagenet cannot be used: there is no"):
        fetch("imagenet_256", tmp_path)
