"""A results file of compare.py as a table in Markdown.

    python benchmarks/compare/table.py benchmarks/results/compare-nnunetv2-cpu.json

Of nnU-Net's processes, "one per core" is tuned, "its defaults" what its commands do if not told otherwise, and "either"
means that both are the same number (see compare.py). Below the table: where nnU-Net is ahead, how alike both answers
are, what failed, and how long each stage took.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = (
    *("stage", "unit", "nnU-Net's processes", "nnU-Net v2", "nnlite", "times faster"),
    *("whole command, s", "peak GiB"),
)
PROCESSES = {"": "either", "cores": "one per core", "default": "its defaults"}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of all stages, and what there is to say about it."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    behind, alike, failed = [], [], []
    for name, found in results.items():
        for contestant in (key for key in found if key.startswith("nnlite")):
            ours, label = found[contestant], f"{name}{contestant.removeprefix('nnlite')}"
            for rival, compared in (ours["against"] or {None: None}).items():
                processes = PROCESSES[rival.removeprefix("nnunetv2").strip()] if rival else "-"
                theirs = found[rival] if rival else None
                lines.append(_row(f"{label}: {found['what']}", found["unit"], processes, theirs, ours, compared))
                if compared and compared["times_faster"] < 1:
                    behind.append(f"{label} ({processes})")
        alike += [f"{name}: {what} {share:.5f}." for what, share in found.get("agreement", {}).items()]
        failed += [f"{name} failed: {found['failed']}"] if "failed" in found else []
    spent = ", ".join(f"{name} {found['duration_s']:.0f} s" for name, found in results.items())
    ahead = f"nnU-Net is ahead in: {', '.join(behind) or 'none of these'}."
    return "\n".join([*lines, "", ahead, *alike, *failed, f"Time taken, preparation included: {spent}."])


def _row(
    what: str,
    unit: str,
    processes: str,
    theirs: Mapping[str, Any] | None,
    ours: Mapping[str, Any],
    compared: Mapping[str, Any] | None,
) -> str:
    times = f"**{compared['times_faster']:.2f}**" if compared else "-"
    pairs = [
        f"{theirs[key]:.1f} : {ours[key]:.1f}" if theirs else f"- : {ours[key]:.1f}"
        for key in ("command_median_s", "peak_gib")
    ]
    return f"| {' | '.join((what, unit, processes, _shown(theirs), _shown(ours), times, *pairs))} |"


def _shown(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["range"]
    return f"{found['median']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())["stages"]))
