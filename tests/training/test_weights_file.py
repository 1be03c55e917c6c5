"""A header of safetensors is believed only where all of it agrees with itself and with the file."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
import torch
from safetensors.torch import save

from nnlite.errors import CheckpointError
from nnlite.training.weights_file import read_header, read_tensor

TENSORS = {"first": torch.arange(6.0).reshape(2, 3), "second": torch.zeros(0, 4), "third": torch.tensor(7.0)}


def file(table: Any, data: bytes = b"") -> memoryview:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return memoryview(struct.pack("<Q", len(text)) + text + data)


def entry(shape: Any, start: Any, stop: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_what_the_library_of_the_format_has_written_is_read():
    content = memoryview(save(TENSORS, metadata={"of": "whom"}))
    header = read_header(content, "a.safetensors")
    assert header.metadata == {"of": "whom"}
    assert header.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert header.tensors[name].shape == tuple(tensor.shape)
        assert torch.equal(read_tensor(content, header.tensors[name]), tensor)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(memoryview(b""), id="empty"),
        pytest.param(memoryview(b"\0" * 8), id="no header"),
        pytest.param(memoryview(b"\xff" * 64), id="absurd length"),
        pytest.param(file(b"{" * 9), id="no JSON"),
        pytest.param(file(b"[" * 100_000), id="nested without end"),
        pytest.param(file(b"\xff\xff{}"), id="no text"),
        pytest.param(file([]), id="no table"),
        pytest.param(file({"__metadata__": [1]}), id="metadata that is no table"),
        pytest.param(file({"__metadata__": {"a": 1}}), id="metadata that is no text"),
        pytest.param(file({"w": 3}), id="an entry that is none"),
        pytest.param(file({"w": {"dtype": "F32"}}), id="an entry without a place"),
        pytest.param(file({"w": {**entry([1], 0, 4), "more": 1}}, b"1234"), id="an unknown key"),
        pytest.param(file({"w": entry([1], 0, 4, "I32")}, b"1234"), id="another dtype"),
        pytest.param(file({"w": entry([2], 0, 4)}, b"1234"), id="shape and place disagree"),
        pytest.param(file({"w": entry([-1], 0, -4)}), id="negative"),
        pytest.param(file({"w": entry([1.0], 0, 4)}, b"1234"), id="not whole"),
        pytest.param(file({"w": entry([True], 0, 4)}, b"1234"), id="true is no size"),
        pytest.param(file({"w": entry([2**62, 2**62], 0, 2**126)}), id="absurd shape"),
        pytest.param(file({"w": entry([1], 4, 8)}, b"12345678"), id="gap"),
        pytest.param(file({"w": entry([1], 0, 4), "v": entry([1], 0, 4)}, b"1234"), id="overlap"),
        pytest.param(file({"w": entry([1], 0, 4)}, b"123"), id="cut off"),
        pytest.param(file({"w": entry([1], 0, 4)}, b"12345"), id="too long"),
        pytest.param(file(b'{"w": %b, "w": %b}' % ((json.dumps(entry([1], 0, 4)).encode(),) * 2), b"1234"), id="twice"),
    ],
)
def test_a_header_that_cannot_be_is_refused(content: memoryview):
    with pytest.raises(CheckpointError, match=r"^a\.safetensors cannot be read as a model .*copy it again$"):
        read_header(content, "a.safetensors")
