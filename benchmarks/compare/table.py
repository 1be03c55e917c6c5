"""A results file of compare.py as a table in Markdown.

    python benchmarks/compare/table.py benchmarks/results/compare-nnunetv2-cpu.json

Below the table: where nnU-Net is ahead, how alike both answers are, what failed, and how long each stage took.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of all stages, and what there is to say about it."""
    columns = ("stage", "unit", "nnU-Net v2", "nnlite", "times faster", "whole command, s", "peak GiB")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    behind, alike, failed = [], [], []
    for name, found in results.items():
        theirs = found.get("nnunetv2")
        for contestant in (key for key in found if key.startswith("nnlite")):
            ours, label = found[contestant], f"{name}{contestant.removeprefix('nnlite')}"
            times = f"**{ours['times_faster']:.2f}**" if theirs else "-"
            pairs = [
                f"{theirs[key]:.1f} : {ours[key]:.1f}" if theirs else f"- : {ours[key]:.1f}"
                for key in ("command_median_s", "peak_gib")
            ]
            cells = (f"{label}: {found['what']}", found["unit"], _shown(theirs), _shown(ours), times, *pairs)
            lines.append(f"| {' | '.join(cells)} |")
            if theirs and ours["times_faster"] < 1:
                behind.append(label)
        alike += [f"{name}: {what} {share:.5f}." for what, share in found.get("agreement", {}).items()]
        failed += [f"{name} failed: {found['failed']}"] if "failed" in found else []
    spent = ", ".join(f"{name} {found['duration_s']:.0f} s" for name, found in results.items())
    ahead = f"nnU-Net is ahead in: {', '.join(behind) or 'none of these'}."
    return "\n".join([*lines, "", ahead, *alike, *failed, f"Time taken, preparation included: {spent}."])


def _shown(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["range"]
    return f"{found['median']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())["stages"]))
