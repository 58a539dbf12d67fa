"""Decoding of every kind of PNG and JPEG against the formats' own rules, and lists of files."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_tiny_imagenet import WNIDS, load, write_folder

from runner.data.base import DataError
from runner.data.image_files import image_files, rgb

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
RAMP = np.arange(256).reshape(16, 16)


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def write_png(
    path: Path, values: np.ndarray, kind: int, depth: int, *more: tuple[bytes, bytes]
) -> None:
    """Write values (H, W, C) as a PNG, encoded by hand."""
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, kind, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", head), *more, (b"IDAT", body), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks))


def decoded(path: Path) -> np.ndarray:
    return np.array(rgb(path)).astype(int)


def channels(kind: int, largest: int) -> np.ndarray:
    """A ramp in every channel, each another one, from 0 to `largest`: (16, 16, C)."""
    ramps = [np.roll(RAMP, 5 * c) for c in range(CHANNELS[kind])]
    return np.stack(ramps, axis=-1) * largest // 255


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_values_of_every_depth_span_0_to_255(depth: int, tmp_path: Path) -> None:
    values = channels(GREY, 2**depth - 1)
    write_png(tmp_path / "a.png", values, GREY, depth)
    expected = values >> 8 if depth == 16 else values * 255 // (2**depth - 1)
    found = decoded(tmp_path / "a.png")
    assert np.array_equal(found, expected.repeat(3, axis=2))
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("kind", [GREY, COLOUR, GREY_ALPHA, COLOUR_ALPHA])
def test_an_8_bit_image_stored_with_16_bits_is_read_to_the_bit(kind: int, tmp_path: Path) -> None:
    values = channels(kind, 255)
    write_png(tmp_path / "narrow.png", values, kind, 8)
    write_png(tmp_path / "wide.png", values * 257, kind, 16)
    assert np.array_equal(decoded(tmp_path / "wide.png"), decoded(tmp_path / "narrow.png"))


@pytest.mark.parametrize("kind", [GREY_ALPHA, COLOUR_ALPHA])
def test_transparent_pixels_are_laid_over_black(kind: int, tmp_path: Path) -> None:
    values = channels(kind, 255)
    write_png(tmp_path / "a.png", values, kind, 8)
    colours, alpha = values[..., :-1], values[..., -1:]
    expected = np.floor(colours * alpha / 255 + 0.5).astype(int)
    assert np.array_equal(decoded(tmp_path / "a.png"), np.broadcast_to(expected, (16, 16, 3)))


def test_a_transparent_colour_and_a_transparent_palette_are_laid_over_black(
    tmp_path: Path,
) -> None:
    colours = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2], axis=1)
    alpha = np.arange(256)[::-1]
    palette = (b"PLTE", colours.astype(np.uint8).tobytes())
    write_png(tmp_path / "plain.png", RAMP[..., None], PALETTE, 8, palette)
    assert np.array_equal(decoded(tmp_path / "plain.png"), colours[RAMP])
    hidden = (b"tRNS", alpha.astype(np.uint8).tobytes())
    write_png(tmp_path / "hidden.png", RAMP[..., None], PALETTE, 8, palette, hidden)
    expected = np.floor(colours * alpha[:, None] / 255 + 0.5).astype(int)[RAMP]
    assert np.array_equal(decoded(tmp_path / "hidden.png"), expected)
    for depth, factor in ((8, 1), (16, 257)):
        one = (b"tRNS", struct.pack(">H", 200 * factor))
        write_png(tmp_path / "grey.png", RAMP[..., None] * factor, GREY, depth, one)
        expected = np.where(RAMP == 200, 0, RAMP)[..., None].repeat(3, axis=2)
        assert np.array_equal(decoded(tmp_path / "grey.png"), expected)


def test_a_cmyk_image_becomes_rgb_by_the_plain_formula(tmp_path: Path) -> None:
    flat = Image.new("CMYK", (8, 8), (40, 90, 130, 60))
    flat.save(tmp_path / "a.jpg", quality=100)
    expected = [(255 - c) * (255 - 60) / 255 for c in (40, 90, 130)]
    assert np.abs(decoded(tmp_path / "a.jpg") - expected).max() <= 2


def test_missing_and_foreign_files_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", format="GIF")
    for name, message in (
        ("link.jpg", "is a link to .*gone.jpg, which does not exist"),
        ("none.jpg", "cannot be read: No such file"),
        ("text.jpg", "is not an intact JPEG or PNG"),
        ("a.jpg", "is not an intact JPEG or PNG"),
    ):
        with pytest.raises(DataError, match=f"{name} {message}"):
            rgb(tmp_path / name)


def test_any_damage_of_a_png_gives_the_same_kind_of_error(tmp_path: Path) -> None:
    draws, path = np.random.default_rng(0), tmp_path / "a.png"
    write_png(path, channels(COLOUR_ALPHA, 255), COLOUR_ALPHA, 8)
    intact = path.read_bytes()
    for _ in range(200):
        content = bytearray(intact)
        content[draws.integers(8, len(content))] = draws.integers(256)
        path.write_bytes(content[: draws.choice([len(content), draws.integers(len(content))])])
        try:
            rgb(path)
        except DataError as error:
            assert str(path) in error.problem


def test_images_are_counted_by_their_endings_and_nothing_else_is(tmp_path: Path) -> None:
    images = ["a.JPEG", "b.jpg", "c.JPG", "d.png"]
    for name in [*images, "._a.JPEG", ".DS_Store", "notes.txt", "a.JPEG.part"]:
        (tmp_path / name).write_bytes(b"x")
    assert list(image_files(tmp_path.parent, tmp_path.name)) == [
        f"{tmp_path.name}/{name}" for name in images
    ]
    (tmp_path / "e.jpg").mkdir()
    with pytest.raises(DataError, match="e.jpg has the name of an image, but is not a file"):
        image_files(tmp_path.parent, tmp_path.name)
    (tmp_path / "e.jpg").rmdir()
    (tmp_path / "e.jpg").symlink_to("e.jpg")
    with pytest.raises(DataError, match="e.jpg cannot be read: Too many levels"):
        image_files(tmp_path.parent, tmp_path.name)


def test_tiny_imagenet_with_other_endings_and_dangling_links(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    before = load(tmp_path)
    images = folder / "train" / WNIDS[0] / "images"
    for i, ending in enumerate((".jpg", ".JPG", ".jpeg")):
        (images / f"{WNIDS[0]}_{i}.JPEG").rename(images / f"{WNIDS[0]}_{i}{ending}")
    (images / "Thumbs.db").write_text("no image")
    assert load(tmp_path).checksum == before.checksum
    (images / f"{WNIDS[0]}_0.jpg").unlink()
    (images / f"{WNIDS[0]}_0.jpg").symlink_to("/nowhere/a.jpg")
    with pytest.raises(DataError, match=r"_0.jpg is a link to /nowhere/a.jpg, which does not"):
        load(tmp_path)
