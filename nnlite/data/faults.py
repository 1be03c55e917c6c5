"""What is wrong with a dataset, and how all of it is told in one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

LISTED_CASES = 5  # names shown of many cases with the very same fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that keeps a case, or the whole dataset (``case`` None), from being used, and the way out."""

    case: str | None
    what: str
    remedy: str
    file: str | None = None


def in_words(faults: Sequence[Fault], *, dataset: str, cases: int) -> str:
    """All faults as one message; the same fault of several cases is told once.

    ``cases`` is the number of cases in the dataset, faulty ones included.

    >>> print(in_words([Fault(case="b", what="no label", remedy="add it", file="b.png")], dataset="cells", cases=9))
    cells: 1 of 9 cases cannot be used:
    - b (b.png): no label; add it
    """
    groups: dict[tuple[bool, str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.case is None, fault.what, fault.remedy), []).append(fault)
    lines = [_headline(faults, dataset, cases)]
    for (whole, what, remedy), group in sorted(groups.items(), key=lambda item: not item[0][0]):
        lines.append(f"- {what}; {remedy}" if whole else f"- {_who(group)}: {what}; {remedy}")
    return "\n".join(lines)


@contextmanager
def named_in_errors(what: str) -> Iterator[None]:
    """Let whatever goes wrong in the block say what it happened to, below its own message and traceback.

    >>> with named_in_errors("case liver_7"):
    ...     raise ValueError("no numbers")
    Traceback (most recent call last):
    ValueError: no numbers
    case liver_7
    """
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


def _headline(faults: Sequence[Fault], dataset: str, cases: int) -> str:
    faulty = len({fault.case for fault in faults if fault.case is not None})
    if not faulty:
        return f"{dataset} cannot be used:"
    return f"{dataset}: {faulty} of {max(cases, faulty)} cases cannot be used:"


def _who(group: Sequence[Fault]) -> str:
    names = list(dict.fromkeys(str(fault.case) for fault in group))
    if len(names) == 1:
        files = ", ".join(dict.fromkeys(fault.file for fault in group if fault.file))
        return f"{names[0]} ({files})" if files else names[0]
    more = f", and {len(names) - LISTED_CASES} more" if len(names) > LISTED_CASES else ""
    return f"{len(names)} cases ({', '.join(names[:LISTED_CASES])}{more})"
