"""A file of decoded images that cannot be written costs time and nothing else."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from runner.data.decoded import decoded_once


def test_a_kept_file_that_cannot_be_written_is_named_and_the_images_are_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = []
    for number in range(3):
        files.append((tmp_path / f"{number}.jpg", number))
        Image.new("RGB", (8, 8), (80 * number, 9, 200)).save(files[-1][0])
    size = 8
    good = decoded_once(tmp_path / "kept.safetensors", "digest", files[:2], files[2:], size)
    assert (tmp_path / "kept.safetensors").is_file()
    folder = tmp_path / "occupied"
    folder.write_text("a file where the folder of the kept file should be")
    capfd.readouterr()
    images = decoded_once(folder / "kept.safetensors", "digest", files[:2], files[2:], size)
    assert torch.equal(images.train.images, good.train.images)
    assert images.train.labels.tolist() == [0, 1] and images.test.labels.tolist() == [2]
    message = capfd.readouterr().err
    assert f"{folder / 'kept.safetensors'} cannot be written (" in message
    assert "the next run decodes the images again" in message
