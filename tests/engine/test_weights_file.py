"""Files given as weights: what is read, and one message for each kind of unsuitable content."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from runner.engine.weights_file import UnsuitableError, content_of

STATE = {"conv.weight": torch.arange(12.0).view(4, 3), "conv.bias": torch.zeros(4)}
HALF = torch.tensor([[True, False, False]] * 4)  # density 1/3


def save(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def pruned(path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4))
    prune.custom_from_mask(net[0], "weight", HALF)  # type: ignore[no-untyped-call]
    torch.save(net.state_dict(), path)


def one(tensor: Tensor) -> Callable[[Path], None]:
    return save(STATE | {"conv.weight": tensor})


def itself() -> dict[str, Any]:
    found: dict[str, Any] = {"mask": {"conv.weight": HALF}}
    found["again"] = found
    return found


MASKED = "1 mask (density 0.3333), which would not be applied: "
UNSUITABLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "masks beside the state dict": (
        save({"state_dict": STATE, "mask": {"conv.weight": HALF}}),
        f"contains {MASKED}mask.conv.weight; apply each to its weight",
    ),
    "a list of masks": (
        save({"model": STATE, "pruner": {"masks": [HALF]}}),
        f"contains {MASKED}pruner.masks.0",
    ),
    "torch's pruning": (pruned, f"contains {MASKED}0.weight_mask"),
    "masks in a second group": (
        lambda path: save_file({**STATE, "masks/conv.weight": HALF}, path),
        f"contains {MASKED}masks/conv.weight",
    ),
    "a checkpoint that contains itself": (save(itself()), f"contains {MASKED}mask.conv.weight"),
    "sparse": (one(torch.ones(4, 3).to_sparse()), "contains a sparse (sparse_coo) tensor, conv"),
    "meta": (one(torch.ones(4, 3, device="meta")), "contains a meta (without data) tensor, conv"),
    "quantised": (
        one(torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.qint8)),
        "contains a quantised tensor, conv.weight",
    ),
    "complex": (one(torch.ones(4, 3) * 1j), "contains a complex tensor, conv.weight"),
    "whole numbers as keys": (save({0: torch.ones(3)}), "has the key 0 of type int"),
    "other values": (save(STATE | {"epoch": 3}), "contains more than tensors: epoch (int)"),
    "no tensors": (save({"epoch": 3}), "contains no state dict"),
    "a number": (save(7), "contains no state dict"),
}
FOREIGN = {
    "text": b"hello\n",
    "JSON": b'{"a": 1}',
    "CSV": b"a,b,c\n1,2,3\n",
    "latin-1": "é\n".encode("latin-1"),
    "a pickle of protocol 0": b"(dp0\n.",
    "an empty stack": b".",
    "a memo that does not exist": b"h\x05.",
    "a picture": b"GIF89a\x01\x00",
    "gzip": b"\x1f\x8b\x08\x00",
    "zip": b"PK\x03\x04 nothing",
    "a header without tensors": (20).to_bytes(8, "little") + b'{"a": {"dtype": "F7"}}',
    "nothing": b"",
    "zeros": bytes(64),
}


@pytest.mark.parametrize("name", UNSUITABLE)
def test_unsuitable_content_is_refused_with_its_kind_and_name(name: str, tmp_path: Path) -> None:
    make, message = UNSUITABLE[name]
    make(tmp_path / "given")
    with pytest.raises(UnsuitableError) as caught:
        content_of(tmp_path / "given", frozenset(STATE))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(FOREIGN[name])
    with pytest.raises(UnsuitableError) as caught:
        content_of(tmp_path / "given", frozenset())
    assert str(caught.value).startswith(("is not a file of torch", "cannot be read"))
    assert "\n" not in str(caught.value)


def test_no_damage_of_a_file_raises_another_error(tmp_path: Path) -> None:
    path, draws = tmp_path / "given", random.Random(0)
    forms = []
    for write in (
        lambda: torch.save(STATE, path),
        lambda: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        lambda: save_file(STATE, path),
    ):
        write()
        forms.append(path.read_bytes())
    for _ in range(60):
        content = bytearray(draws.choice(forms))
        place = draws.randrange(len(content))
        content[place : place + draws.randrange(30)] = draws.randbytes(draws.randrange(30))
        path.write_bytes(content[: draws.choice([None, place])])
        try:
            content_of(path, frozenset())
        except UnsuitableError as error:
            assert "\n" not in str(error)


def test_the_content_and_not_the_name_decides_the_format(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "one.pt")
    torch.save(STATE, tmp_path / "other.safetensors")
    for path in tmp_path.iterdir():
        found = content_of(path, frozenset()).state
        assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


def test_names_of_the_network_and_other_words_denote_no_masks(tmp_path: Path) -> None:
    state = STATE | {"attention_mask": torch.ones(3), "unmasked.weight": torch.ones(3)}
    torch.save(state, tmp_path / "given")
    assert (
        content_of(tmp_path / "given", frozenset({"attention_mask"})).state.keys() == state.keys()
    )
