"""Archives that would swell when torch opens them, or tensors when they are converted, are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from nnlite.training.torch_archive import require_held, require_stored

CONTENT = {"a": [torch.zeros(3), (torch.ones(2, 3).T, {"b": torch.arange(5)[1:3]})], "epoch": 3}


def saved() -> bytes:
    archive = io.BytesIO()
    torch.save(CONTENT, archive)
    return archive.getvalue()


def test_what_torch_saves_passes(tmp_path: Path):
    require_stored(io.BytesIO(saved()))
    (tmp_path / "a.pt").write_bytes(saved())
    require_stored(tmp_path / "a.pt")
    require_held(CONTENT)


def test_a_compressed_archive_is_refused():
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="it is compressed"):
        require_stored(packed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for _ in range(2):
            target.writestr("data.pkl", b"")
    with pytest.raises(ValueError, match="two members of one name"):
        require_stored(archive)


def test_members_that_share_their_bytes_are_refused():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name in ("one", "two"):
            target.writestr(name, b"0" * 100)
        target.filelist[1].header_offset = target.filelist[0].header_offset
    with pytest.raises(ValueError, match="overlap"):
        require_stored(archive)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1, dtype=torch.half).expand(2**40), torch.empty(2**40, device="meta")], ids=["one", "none"]
)
def test_a_tensor_that_claims_more_than_is_stored_is_refused(tensor: torch.Tensor):
    with pytest.raises(ValueError, match=r"shape \(1099511627776,\) has fewer values"):
        require_held({"a": [1, (tensor,)]})


def test_a_list_that_holds_itself_comes_to_an_end():
    around: list[object] = [1]
    around.append(around)
    require_held(around)
