"""Judge the text headers of MetaImage and NRRD files before SimpleITK follows them.

Both may leave their voxels in another file. Its reader would open any file of the system that a header names, and
reserve whatever memory a header claims. Here the other file has to lie beside the header (``../scans/a.raw`` or
``/etc/passwd`` do not), and what is claimed has to be plausible for what is there. Formats: MetaIO (itk.org), NRRD
(teem.sourceforge.net/nrrd).
"""

from __future__ import annotations

import math
from pathlib import Path

HEADER_LIMIT_BYTES = 1 << 16  # headers have some hundred bytes
DENSEST = 1100  # deflate packs at most 1032 bytes into one; beyond, the header or the file is wrong
META_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
NRRD_BYTES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8}
AGAIN = "get the file again"
HERE, LISTED = ("LOCAL", ""), "LIST"


def text_header_problem(path: Path, suffix: str) -> tuple[str, str] | None:
    """What forbids to read a .mha, .mhd or .nrrd file, and the remedy; None if nothing does."""
    with path.open("rb") as file:
        text = file.read(HEADER_LIMIT_BYTES)
    return _nrrd(path, text) if suffix == ".nrrd" else _meta(path, text)


def _meta(path: Path, text: bytes) -> tuple[str, str] | None:
    head, marker, rest = text.partition(b"ElementDataFile")
    fields = _fields(head, "=")
    if not marker or "DimSize" not in fields:
        return "is no MetaImage: its header has no DimSize or no ElementDataFile", AGAIN
    data = rest.split(b"\n")[0].strip(b" =\r\t").decode(errors="replace")
    scale = META_BYTES.get(fields.get("ElementType", "").removeprefix("MET_"), 1)
    channels = _product(fields.get("ElementNumberOfChannels", "1"))
    claimed = _product(fields["DimSize"]) * scale * channels
    spacing = fields.get("ElementSpacing", fields.get("ElementSize", "1"))
    if problem := _spacing_problem(spacing):
        return problem
    packed = fields.get("CompressedData", "").lower() == "true"
    return _problem(path, data, claimed, packed=packed, header_bytes=len(head) + len(rest.split(b"\n")[0]))


def _nrrd(path: Path, text: bytes) -> tuple[str, str] | None:
    head = text.replace(b"\r", b"").partition(b"\n\n")[0]
    fields = _fields(head, ":")
    if not head.startswith(b"NRRD") or "sizes" not in fields:
        return "is no NRRD file: its header has no sizes", AGAIN
    if "spacings" in fields and (problem := _spacing_problem(fields["spacings"])):
        return problem
    kind = fields.get("type", "").removeprefix("unsigned ").removeprefix("signed ")
    claimed = _product(fields["sizes"]) * NRRD_BYTES.get(kind, 1)
    data = fields.get("data file", fields.get("datafile", ""))
    return _problem(path, data, claimed, packed=fields.get("encoding") != "raw", header_bytes=len(head))


def _problem(path: Path, data: str, claimed: int, *, packed: bool, header_bytes: int) -> tuple[str, str] | None:
    if claimed <= 0:
        return "its header states no size, or one that is not positive", "correct its header"
    name = data.split()[0] if data else ""
    if name == LISTED or "%" in name:
        return f"its voxels lie in several other files ({data})", "save it as one file"
    other = path if data in HERE else path.parent / data
    if data not in HERE:
        if Path(data).name != data:
            remedy = "put that file beside it and name it without a folder, or save both as one file"
            return f"its header leads out of its folder, to {data}", remedy
        if not other.is_file():
            return f"its voxels should lie in {data} beside it, and that file does not exist", f"put {data} beside it"
    there = other.stat().st_size - (header_bytes if other == path else 0)
    if there < claimed / (DENSEST if packed else 1):
        least = "at least " if packed else ""
        need = math.ceil(claimed / DENSEST) if packed else claimed
        what = f"the file is cut short: {there} of {least}{need} bytes of voxels are in {other.name}"
        return what, AGAIN
    return None


def _spacing_problem(text: str) -> tuple[str, str] | None:
    try:
        steps = [float(word) for word in text.split()]
    except ValueError:
        return f"the spacing in its header, {text}, is no number", "correct its header"
    if any(step == 0 or math.isinf(step) for step in steps) or all(map(math.isnan, steps)):
        return f"the spacing in its header, ({', '.join(f'{step:g}' for step in steps[::-1])}) mm, is not positive", (
            "correct its header"
        )
    return None


def _fields(head: bytes, separator: str) -> dict[str, str]:
    lines = head.decode(errors="replace").replace("\r", "").split("\n")
    pairs = (line.partition(separator) for line in lines if not line.startswith("#"))
    return {key.strip(): value.strip() for key, found, value in pairs if found}


def _product(text: str) -> int:
    """The product of the whole numbers in a text; 0 if they are none, or one is not positive."""
    try:
        numbers = [int(word) for word in text.split()]
    except ValueError:
        return 0
    return math.prod(numbers) if numbers and min(numbers) > 0 else 0
