"""The tensors in a safetensors file, none of them taken before the whole header has been found sound.

The format (github.com/huggingface/safetensors): 8 bytes with the length of a JSON header, the header with dtype, shape
and place of each tensor and a table of texts, then the tensors one behind the other. nnlite keeps weights as float32.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnlite.errors import CheckpointError

LENGTH = struct.Struct("<Q")
LARGEST_HEADER = 2**24  # ten thousand tensors and a plan of hundreds of labels take a tenth
METADATA = "__metadata__"
DTYPE, ITEM_BYTES = "F32", 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Shape of a tensor, and the first of its bytes in the file."""

    shape: tuple[int, ...]
    start: int

    @property
    def values(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsHeader:
    """What lies in the file: tensors by name, texts by key; ``length`` counts its own bytes, up to the tensors."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]
    length: int


def read_header(content: memoryview, source: str) -> WeightsHeader:
    """The header of a file; ``CheckpointError``, naming ``source``, unless its tensors fill the file exactly."""

    def refusal(why: object) -> CheckpointError:
        return CheckpointError(f"{source} cannot be read as a model ({why}); it may have been cut off: copy it again")

    length = LENGTH.size + (LENGTH.unpack(content[: LENGTH.size])[0] if len(content) >= LENGTH.size else 0)
    if not LENGTH.size < length <= min(len(content), LARGEST_HEADER):
        raise refusal("it has no header")
    try:
        table = json.loads(str(content[LENGTH.size : length], "utf-8"), object_pairs_hook=_each_once)
        metadata = _texts(table.pop(METADATA, {}))
        tensors = {name: _stored(entry, length) for name, entry in table.items()}
    except (ValueError, RecursionError, TypeError, AttributeError, KeyError) as problem:
        raise refusal(f"its header is damaged: {problem}") from problem
    end = length
    for stored in sorted(tensors.values(), key=lambda one: (one.start, one.values)):
        if stored.start != end:
            raise refusal("its tensors overlap, or leave gaps")
        end += stored.values * ITEM_BYTES
    if end != len(content):
        raise refusal(f"its tensors end at byte {end}, the file at {len(content)}")
    return WeightsHeader(tensors=tensors, metadata=metadata, length=length)


def read_tensor(content: memoryview, stored: StoredTensor) -> Tensor:
    """A tensor of the file, in memory of its own."""
    values = np.frombuffer(content, dtype="<f4", count=stored.values, offset=stored.start)
    return torch.from_numpy(values.astype(np.float32).reshape(stored.shape))


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _texts(table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise ValueError(f"{METADATA} should hold texts")
    return table


def _stored(entry: Any, first: int) -> StoredTensor:
    """One entry of the header; ``ValueError`` unless it contradicts itself nowhere."""
    shape, (start, stop) = entry["shape"], entry["data_offsets"]
    if set(entry) != {"dtype", "shape", "data_offsets"} or entry["dtype"] != DTYPE:
        raise ValueError(f"dtype {entry['dtype']} instead of {DTYPE}")
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(f"shape {shape} at {start} to {stop}")
    stored = StoredTensor(shape=tuple(shape), start=first + start)
    if stop - start != stored.values * ITEM_BYTES:
        raise ValueError(f"shape {shape} in {stop - start} bytes")
    return stored
