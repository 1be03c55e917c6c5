"""Model and checkpoint files that are damaged or mean harm, made from real tiny ones; for ``test_hostile_files.py``."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import torch
from nnunet_files import checkpoint as nnunet_checkpoint
from nnunet_files import settings, weights, write_result

from nnlite.data.archive import open_archive, write_archive
from nnlite.inference.postprocess import Postprocessing
from nnlite.networks.build import build_network
from nnlite.pipeline.model_file import NAMES, PackedModel, PackedRun, write_model_file
from nnlite.training.checkpoint import Checkpoint, ModelCard, save_model
from nnlite.training.config import TrainConfig
from nnlite.training.learner import Learner
from nnlite.training.state_file import COMMENT_BYTES, _comment, save_state

CPU = torch.device("cpu")
MARKER = "code-was-run"
Make = Callable[[Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """A file, or for nnU-Net a folder, that ``make`` writes; ``door`` is the reader that it is meant for."""

    name: str
    door: str
    make: Make


class Payload:
    """Unpickled without care, it calls a function that leaves a file behind."""

    def __init__(self, number: int):
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        code = f"open({MARKER!r}, 'w')"
        touch, run = (Path.touch, (Path(MARKER),)), (exec, (code,))
        import os
        import subprocess

        others = ((os.system, (f"touch {MARKER}",)), (subprocess.call, (["touch", MARKER],)), (eval, (code,)))
        return (touch, run, *others)[self.number]


PAYLOADS = 5


def write_real_ones(folder: Path) -> None:
    """An undamaged file for each door: "model", "state", "archive" and, a folder, "nnunet"."""
    plan = tiny.plan()
    configuration = plan.configuration("3d")
    torch.manual_seed(0)
    network = build_network(plan, configuration)
    card = ModelCard(plan=plan, configuration="3d", fold="fold0", epoch=1, mirror_axes=(0, 1, 2))
    save_model(folder / "model", Checkpoint(card=card, weights=network.state_dict()))
    learner = Learner(network, TrainConfig(optimizer="adamw"), batch_dice=False, device=CPU)
    save_state(folder / "state", {**learner.state(), "course": {"epoch": 1}}, previous=folder / "none")
    model = PackedModel(
        members=("3d",),
        folds=("fold0",),
        runs=(PackedRun(configuration="3d", fold="fold0", versions={"nnlite": "0.1.0"}),),
        postprocessing=Postprocessing(),
        selected=None,
        mean_dice_postprocessed=None,
        reliability={},
        scores={},
    )
    files = {"appearance": None, "licence": "none", "weights": [folder / "model"], "versions": {"nnlite": "0.1.0"}}
    write_model_file(folder / "archive", model, plan, **files)  # type: ignore[arg-type]
    shutil.move(write_result(folder / "result"), folder / "nnunet")


def hostile_files(real: Path) -> list[Hostile]:
    """All of them; the same ones every time."""
    makers = (damaged, of_another_kind, pickles, archives, archives_of_others, headers, members, states, of_nnunet)
    return [one for maker in makers for one in maker(real)]


def damaged(real: Path) -> Iterator[Hostile]:
    """Single flipped bits, and files that were cut off, or are followed by more."""
    rng = random.Random(0)
    for door in ("model", "state", "archive"):
        content = (real / door).read_bytes()
        places = [rng.randrange(len(content)) for _ in range(16)] + [rng.randrange(200), len(content) - 1]
        for number, place in enumerate(places):
            flipped = bytearray(content)
            flipped[place] ^= 1 << rng.randrange(8)
            yield Hostile(name=f"bit {number}, of byte {place}", door=door, make=written(bytes(flipped)))
        lengths = (0, 1, 7, 30, 100, *(rng.randrange(101, len(content)) for _ in range(5)), len(content) - 1)
        for length in lengths:
            yield Hostile(name=f"cut off after {length}", door=door, make=written(content[:length]))
        yield Hostile(name="followed by more", door=door, make=written(content + b"\0" * 8))
    with zipfile.ZipFile(real / "nnunet/fold_0/checkpoint_final.pth") as archive:
        member = max(archive.infolist(), key=lambda one: one.file_size)
    content = (real / "nnunet/fold_0/checkpoint_final.pth").read_bytes()
    for number in range(8):
        flipped = bytearray(content)
        flipped[member.header_offset + 200 + rng.randrange(member.file_size - 200)] ^= 1 << number
        yield Hostile(name=f"flipped bit {number}", door="nnunet", make=of_trained(real, bytes(flipped)))
        yield Hostile(name=f"cut {number}", door="nnunet", make=of_trained(real, content[: number * 1000]))


def of_another_kind(real: Path) -> Iterator[Hostile]:
    """A file that is something else."""
    things = {door: (real / door).read_bytes() for door in ("model", "state", "archive")}
    others = {"text": b"hello", "JSON": b"{}", "zeros": b"\0" * 4096, "PNG": b"\x89PNG\r\n\x1a\n", "half": b"PK\3\4"}
    others |= {"random": random.Random(1).randbytes(4096), "empty ZIP": b"PK\5\6" + b"\0" * 18}
    for door in things:
        for name, content in {**things, **others}.items():
            if name != door:
                yield Hostile(name=f"{name} as {door}", door=door, make=written(content))
    for name, content in {**things, **others}.items():
        yield Hostile(name=f"{name} as checkpoint", door="nnunet", make=of_trained(real, content))


def pickles(real: Path) -> Iterator[Hostile]:
    """Payloads that would run code, in every place where a careless reader would unpickle them."""
    for number in range(PAYLOADS):
        plain = pickle.dumps({"network": Payload(number)})
        for door in ("model", "state", "archive"):
            yield Hostile(name=f"pickle {number}", door=door, make=written(plain))
        yield Hostile(name=f"pickle {number}", door="nnunet", make=of_trained(real, plain))
        for place in ("network", "optimizer", "course"):
            yield Hostile(name=f"signed, {place} {number}", door="state", make=signed({place: [Payload(number)]}))
        for place in ("network_weights", "logging"):
            content = {**nnunet_checkpoint("3d_fullres", weights(settings())), place: {"a": Payload(number)}}
            make = of_trained(real, lambda path, content=content: torch.save(content, path))
            yield Hostile(name=f"{place} {number}", door="nnunet", make=make)
        yield Hostile(name=f"pickle {number} as weights", door="archive", make=packed(real, {WEIGHTS: plain}))


WEIGHTS = "weights/3d/fold0.safetensors"


def archives(real: Path) -> Iterator[Hostile]:
    """Archives as nnlite puts them together, with members that do not belong there."""
    names = ("../evil", "/etc/evil", "..\\evil", "C:\\evil", "\\\\host\\evil", "weights/../../evil", "weights/3d/", "")
    names += (
        "~/evil",
        "evil.py",
        "weights/3d/fold0.pt",
        "MODEL.JSON",
        "a\0b",
        "manifest.json",
        "weights/3d/fold0",
        "é",
    )
    for name in names:
        yield Hostile(name=f"member {name!r}", door="archive", make=packed(real, {name: b"evil"}))
    for gone in ("model.json", "plan.json", "LICENCE.txt", WEIGHTS):
        yield Hostile(name=f"without {gone}", door="archive", make=packed(real, {gone: None}))
    for name in ("model.json", "plan.json", "LICENCE.txt", WEIGHTS, "appearance.json"):
        yield Hostile(name=f"{name} of noise", door="archive", make=packed(real, {name: b"\xff\xfe\0"}))


def archives_of_others(real: Path) -> Iterator[Hostile]:
    """The same members packed by another program, with whatever the format allows."""
    with zipfile.ZipFile(real / "archive") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}

    def made(*more: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_STORED) -> Make:
        def make(path: Path) -> None:
            with zipfile.ZipFile(path, "w", method) as target:
                for name, data in (*content.items(), *more):
                    target.writestr(name, data)

        return make

    link = zipfile.ZipInfo("weights/3d/fold1.safetensors")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    yield Hostile(name="packed anew", door="archive", make=made())
    yield Hostile(name="compressed", door="archive", make=made(method=zipfile.ZIP_DEFLATED))
    yield Hostile(name="link", door="archive", make=made((link, b"/etc/passwd")))
    for name in ("../evil", "/evil", "C:evil", "weights/3d/fold0.safetensors", "plan.json"):
        yield Hostile(name=f"more: {name}", door="archive", make=made((name, b"evil")))
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield Hostile(name=f"bomb {method}", door="archive", make=made(("plan.json", b"\0" * 2**24), method=method))


def headers(real: Path) -> Iterator[Hostile]:
    """Headers of safetensors that promise what is not there, or more than any memory holds."""
    whole = (real / "model").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    table, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = next(key for key in table if key != "__metadata__")

    def entry(**change: Any) -> dict[str, Any]:
        return {**table, name: {**table[name], **change}}

    card = json.loads(table["__metadata__"]["nnlite"])
    card.pop("sha256")
    topology = card["plan"]["configurations"]["3d"]["topology"]

    def carded(**change: Any) -> dict[str, Any]:
        return {**table, "__metadata__": {"nnlite": json.dumps({**card, **change})}}

    def planned(**change: Any) -> dict[str, Any]:
        configuration = {**card["plan"]["configurations"]["3d"], **change}
        return carded(plan={**card["plan"], "configurations": {"3d": configuration}})

    blocks = [10**9] * len(topology["encoder_blocks"])
    tables: dict[str, Any] = {
        "shape of a petabyte": entry(shape=[2**48]),
        "petabyte and place": entry(shape=[2**48], data_offsets=[0, 2**50]),
        "more than 64 bits": entry(shape=[2**70], data_offsets=[0, 2**72]),
        "many axes": entry(shape=[1] * 100_000),
        "negative shape": entry(shape=[-1, 4]),
        "text for a shape": entry(shape="4"),
        "null": entry(data_offsets=None),
        "backwards": entry(data_offsets=[16, 0]),
        "other dtype": entry(dtype="F64"),
        "code as dtype": entry(dtype=f"__import__('os').system('touch {MARKER}')"),
        "another name": {f"x{key}": value for key, value in table.items()},
        "no card": {key: value for key, value in table.items() if key != "__metadata__"},
        "card of noise": {**table, "__metadata__": {"nnlite": "{{{"}},
        "deep card": {**table, "__metadata__": {"nnlite": "[" * 50_000}},
        "axes": carded(mirror_axes=[0, 7]),
        "configuration": carded(configuration="2d"),
        "newer": carded(format_version=99),
        "unknown key": carded(more=1),
        "absurd depth": planned(topology={**topology, "encoder_blocks": blocks}),
        "absurd width": planned(topology={**topology, "features": [2**40] * len(blocks)}),
        "other width": planned(topology={**topology, "features": [8] * len(blocks)}),
        "absurd patch": planned(patch_size=[2**40] * 3),
        "absurd batch": planned(batch_size=2**60),
        "infinite spacing": planned(spacing_mm=[float("inf")] * 3),
    }
    for what, hostile in tables.items():
        text = json.dumps(hostile).encode()
        content = struct.pack("<Q", len(text)) + text + data
        yield Hostile(name=what, door="model", make=written(content))
        yield Hostile(name=what, door="archive", make=packed(real, {WEIGHTS: content}))
    for size in (0, 2**24 + 1, 2**40, 2**63, 2**64 - 1):
        yield Hostile(name=f"header of {size}", door="model", make=written(struct.pack("<Q", size) + whole[8:]))


def members(real: Path) -> Iterator[Hostile]:
    """JSON members that contradict the rest, or are absurd."""
    texts = {name: open_archive(real / "archive", NAMES).text(name) for name in ("model.json", "plan.json")}
    model, plan = json.loads(texts["model.json"]), json.loads(texts["plan.json"])
    run, weights_of = model["runs"][0], {"intercept": 0, "weights": {"__class__": 1.0}, "cases": 1, "mean_dice": 1}
    weights_of |= {"spearman": None, "mean_absolute_error": 0, "error_of_the_mean": 0, "not_predicted": 0, "missed": 0}
    rule = {"operation": "keep_largest", "label": "evil", "minimum_size": None, "unit": "ml", "ties": "first"}
    models: dict[str, Any] = {
        "newer": {"format_version": 2},
        "no members": {"members": []},
        "unknown member": {"members": ["2d"]},
        "twice": {"members": ["3d", "3d"]},
        "unknown fold": {"folds": ["fold1"]},
        "no folds": {"folds": []},
        "run that is not there": {"runs": [run, {**run, "fold": "fold1"}]},
        "run elsewhere": {"runs": [{**run, "fold": "../../evil"}]},
        "no runs": {"runs": []},
        "a rule for no label": {"postprocessing": {"rules": [rule]}},
        "a feature that is none": {"reliability": {"ball": weights_of}},
        "unknown key": {"code": "import os"},
        "wrong type": {"members": 7},
    }
    for name, change in models.items():
        text = json.dumps({**model, **change}).encode()
        yield Hostile(name=f"model.json: {name}", door="archive", make=packed(real, {"model.json": text}))
    labels = {**plan["labels"], "names": ["background", "evil"], "values": [0, 1]}
    for name, change in {
        "labels": {"labels": labels},
        "axes": {"transpose": [0, 0, 7]},
        "none": {"channels": []},
    }.items():
        text = json.dumps({**plan, **change}).encode()
        yield Hostile(name=f"plan.json: {name}", door="archive", make=packed(real, {"plan.json": text}))
    absurd = {"deep": b"[" * 100_000, "digits": b"1" * 100_000, "text": b'"a"', "two tables": b"{}{}", "nothing": b""}
    absurd["template"] = b'{"format_version": 1, "images": [], "template": [1], "mirror": []}'
    for name, text in absurd.items():
        for member in ("model.json", "plan.json", "appearance.json"):
            yield Hostile(name=f"{member}: {name}", door="archive", make=packed(real, {member: text}))


def states(real: Path) -> Iterator[Hostile]:
    """States with a right checksum that would take all memory, or are of no training."""
    huge = torch.zeros(1, dtype=torch.half).expand(2**42)
    for name, tensor in {"expanded": huge, "without values": torch.empty(2**42, device="meta")}.items():
        yield Hostile(name=name, door="state", make=signed({"network": {"w": tensor}}))

    def bomb(path: Path) -> None:
        torch.save({"network": {"w": torch.zeros(2**22)}}, path)
        compress(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = b"0" * COMMENT_BYTES
        content = path.read_bytes()[:-COMMENT_BYTES]
        path.write_bytes(content + _comment(memoryview(content)))

    yield Hostile(name="bomb", door="state", make=bomb)


def of_nnunet(real: Path) -> Iterator[Hostile]:
    """Result folders of nnU-Net whose plans or checkpoints are absurd."""
    good = nnunet_checkpoint("3d_fullres", weights(settings()))
    half = torch.zeros(1, dtype=torch.half)
    first = next(iter(good["network_weights"]))
    contents: dict[str, Any] = {
        "expanded": {**good, "network_weights": {first: half.expand(2**42)}},
        "no tensor": {**good, "network_weights": {first: "evil"}},
        "other shape": {**good, "network_weights": {**good["network_weights"], first: torch.zeros(2)}},
        "list": [1, 2],
        "no weights": {"init_args": {}, "trainer_name": "x"},
        "axes": {**good, "inference_allowed_mirroring_axes": (0, 9)},
    }
    for name, content in contents.items():
        make = of_trained(real, lambda path, content=content: torch.save(content, path))
        yield Hostile(name=name, door="nnunet", make=make)

    def bomb(path: Path) -> None:
        torch.save({**good, "more": torch.zeros(2**22)}, path)
        compress(path)

    yield Hostile(name="bomb", door="nnunet", make=of_trained(real, bomb))
    plans = json.loads((real / "nnunet/plans.json").read_text())
    fullres = plans["configurations"]["3d_fullres"]
    network = fullres["architecture"]
    absurd: dict[str, Any] = {"n_conv_per_stage": [10**9] * 3, "features_per_stage": [2**40] * 3, "kernel_sizes": 2**40}
    absurd |= {"n_stages": 10**12, "n_conv_per_stage_decoder": [2, 1, 1], "strides": [[1, 1, 1]]}
    for key, value in absurd.items():
        arguments = {**network["arch_kwargs"], key: value}
        changed = {**fullres, "architecture": {**network, "arch_kwargs": arguments}}
        text = json.dumps({**plans, "configurations": {"3d_fullres": changed}}).encode()
        yield Hostile(name=f"plans: {key}", door="nnunet", make=of_trained(real, text, "plans.json"))
    for name, text in {"deep": b"[" * 100_000, "noise": b"\xff\xfe", "text": b'"a"', "empty": b""}.items():
        for file in ("plans.json", "dataset.json"):
            yield Hostile(name=f"{file}: {name}", door="nnunet", make=of_trained(real, text, file))


def written(content: bytes) -> Make:
    return lambda path: path.write_bytes(content) and None


def signed(state: dict[str, Any]) -> Make:
    """A state with the checksum that fits it."""
    return lambda path: save_state(path, state, previous=path)


def packed(real: Path, change: dict[str, bytes | None]) -> Make:
    """nnlite's own archive with some members exchanged, added, or (None) left out, all checksums right."""
    contents: dict[str, Any] = dict(open_archive(real / "archive", NAMES).contents)
    changed = {name: data for name, data in {**contents, **change}.items() if data is not None}
    return lambda path: write_archive(path, changed, {}) and None


def of_trained(real: Path, content: bytes | Make, name: str = "fold_0/checkpoint_final.pth") -> Make:
    """The result folder of nnU-Net with one of its files exchanged."""

    def make(path: Path) -> None:
        shutil.copytree(real / "nnunet", path)
        (written(content) if isinstance(content, bytes) else content)(path / name)

    return make


def compress(path: Path) -> None:
    """The same archive, each member as small as can be."""
    with zipfile.ZipFile(path) as source:
        content = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in content.items():
            target.writestr(name, data)
