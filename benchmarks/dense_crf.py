"""The time that a dense CRF takes, and how far its marginals are from brute force.

    python benchmarks/dense_crf.py [--device cpu] [--pictures ../shared/data/cells/images] [--json FILE]

Images are smoothed noise, probabilities follow them; two labels, five iterations, one and three channels that go
together. Accuracy is measured on a cube of 12 voxels of noise, time for 512 x 512 and 128 x 128 x 128. Processor time
is that of all threads. Run it on an otherwise idle machine. Of ``--pictures`` it counts the features that their colours
need, each colour in units of its standard deviation.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from nnlite.data.image import read_image
from nnlite.data.memory import keep_freed_memory
from nnlite.inference.crf import CrfParameters, dense_crf
from nnlite.inference.crf_case import standardised
from nnlite.inference.range_features import TOLERANCE, RangeFeatures

SIZES = ((512, 512), (128, 128, 128))
CUBE = (12, 12, 12)
CHANNELS = (1, 3)
NOISE = ((1, 0.5), (1, 0.25), (2, 0.5), (2, 0.25), (4, 0.5))  # channels, and the Gaussian of their intensities
WIDTHS = (0.25, 0.75)  # of intensity, in standard deviations
PARAMETERS = CrfParameters(
    smoothness_weight=2, smoothness_mm=1.5, appearance_weight=10, appearance_mm=6, appearance_intensity=0.5
)


def main() -> None:
    """Print a table, and write it as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as `nnlite select` and `predict` do
    device = torch.device(options.device)
    rows = [timed(size, channels, device, options.rounds) for size in SIZES for channels in CHANNELS]
    print("| size | channels | features | s | range, s | processor s | GiB |\n|---|---|---|---|---|---|---|")
    for row in rows:
        size, extent = " x ".join(map(str, row["size"])), f"{min(row['seconds']):.2f} to {max(row['seconds']):.2f}"
        middle = statistics.median(row["seconds"])
        print(
            f"| {size} | {row['channels']} | {row['features']} | {middle:.2f} | {extent} | {row['processor_s']:.1f} | "
            f"{row['memory_gib']:.2f} |"
        )
    errors = [largest_error(channels, intensity) for channels, intensity in NOISE]
    print(f"\nfrom brute force, {' x '.join(map(str, CUBE))} voxels of noise that is independent in each channel:\n")
    print("| channels | intensity | features | residual | largest difference of a marginal |\n|---|---|---|---|---|")
    for one in errors:
        off = f"{one['residual']:.2g} | {one['error']:.2g}"
        print(f"| {one['channels']} | {one['intensity']} | {one['features']} | {off} |")
    pictures = [] if options.pictures is None else [counted(path) for path in sorted(options.pictures.iterdir())]
    for number, width in enumerate(WIDTHS if pictures else ()):
        within = [one["features"][number] for one in pictures if one["residual"][number] <= TOLERANCE]
        worst = max(one["residual"][number] for one in pictures)
        print(
            f"{len(within)} of {len(pictures)} pictures need {min(within)} to {max(within)} features "
            f"(median {statistics.median(within):g}) at {width}; weights of the others are off by up to {worst:.2g}"
        )
    if options.json:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
        about = {"device": options.device, "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
        found = {**about, "rows": rows, "errors": errors, "pictures": pictures}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def processor() -> str:
    """What the system calls the processor."""
    told = Path("/proc/cpuinfo")
    names = [line for line in told.read_text().splitlines() if line.startswith("model name")] if told.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def field(size: tuple[int, ...], channels: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Probabilities of two labels, and an image whose channels are alike."""
    rng = np.random.default_rng(0)
    smooth = torch.from_numpy(gaussian_filter(rng.normal(size=size), sigma).astype(np.float32))
    smooth /= smooth.std()
    noise = torch.from_numpy(rng.normal(size=(channels, *size)).astype(np.float32))
    logits = torch.stack([torch.zeros(size), 2 * smooth + noise[0]])
    return logits.softmax(dim=0), smooth + 0.02 * noise


def timed(size: tuple[int, ...], channels: int, device: torch.device, rounds: int) -> dict[str, Any]:
    """Seconds of each round; memory is the largest of this process so far, or of the GPU."""
    probabilities, image = (part.to(device) for part in field(size, channels, sigma=2))
    seconds, before = [], time.process_time()
    for _ in range(rounds):
        started = time.perf_counter()
        float(dense_crf(probabilities, image, (1.0,) * len(size), PARAMETERS).sum())  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "size": size,
        "channels": channels,
        "features": RangeFeatures(image / PARAMETERS.appearance_intensity).count,
        "seconds": seconds,
        "processor_s": (time.process_time() - before) / rounds,
        "memory_gib": peak / 2**30,
    }


def counted(path: Path) -> dict[str, Any]:
    """How many features a picture needs for each of ``WIDTHS``, and how far weights are off with these."""
    colours = torch.from_numpy(read_image(path).array.astype(np.float32))
    image = standardised(colours, ("rgb_to_0_1",) * len(colours))[:, 0]
    found = [RangeFeatures(image / width) for width in WIDTHS]
    return {
        "picture": path.name,
        "features": [one.count for one in found],
        "residual": [one.residual for one in found],
    }


def largest_error(channels: int, intensity: float) -> dict[str, Any]:
    """Difference from the field over all pairs of voxels, in double precision, where no two voxels are alike."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(channels, *CUBE, generator=generator)
    inside = (2 * image[0] + torch.randn(CUBE, generator=generator)).sigmoid()
    probabilities, chosen = torch.stack([1 - inside, inside]), replace(PARAMETERS, appearance_intensity=intensity)
    places = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in CUBE), indexing="ij")).flatten(1).t()
    far = torch.cdist(places, places).square()
    unlike = torch.cdist(image.double().flatten(1).t(), image.double().flatten(1).t()).square()
    smoothness = (-far / (2 * chosen.smoothness_mm**2)).exp()
    appearance = (-far / (2 * chosen.appearance_mm**2) - unlike / (2 * chosen.appearance_intensity**2)).exp()
    total = torch.zeros_like(far)
    for weight, kernel in ((chosen.smoothness_weight, smoothness), (chosen.appearance_weight, appearance)):
        sums = kernel.sum(dim=1)
        total += weight * (kernel / (sums[:, None] * sums).sqrt()).fill_diagonal_(0)
    state = probabilities.double().flatten(1)
    unary = state.log()
    for _ in range(chosen.iterations):
        state = (unary + state @ total).softmax(dim=0)
    found = dense_crf(probabilities, image, (1.0, 1.0, 1.0), chosen)
    features = RangeFeatures(image / intensity)
    return {
        "channels": channels,
        "intensity": intensity,
        "features": features.count,
        "residual": features.residual,
        "error": float((found - state.view(probabilities.shape)).abs().max()),
    }


if __name__ == "__main__":
    main()
