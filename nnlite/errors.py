"""What a user can do wrong, as one small tree.

    NnliteError               everything nnlite says in one clear message instead of a traceback
    ├── UsageError            an argument that means nothing here: CONFIG, FOLD, an option
    ├── DatasetError          a dataset that cannot be used: all its faults at once
    ├── ImageError            a file that is not the image it should be
    ├── PlanError             a plan that cannot be made, read or followed
    ├── WorkspaceError        something in the workspace is missing, in the way, or does not fit on the disk
    ├── CheckpointError       a trained model that cannot be loaded
    ├── MemoryShortError      a network that does not fit into memory, however it is run
    ├── ProcessLostError      one of several processes that work together is gone
    └── StoppedError          work that was asked to stop, and did, with everything saved

Every message names the thing, the values and the way out. The command line prints it and exits with status 2; after
a ``StoppedError`` with 143 or 130, as it was SIGTERM or Ctrl-C that asked.
"""

from __future__ import annotations


class NnliteError(Exception):
    """Base of all errors that a user can cause and repair."""


class UsageError(NnliteError):
    """An argument that means nothing here."""


class DatasetError(NnliteError):
    """A dataset that cannot be used; the message lists every fault found."""


class ImageError(NnliteError):
    """A file that cannot be read as an image, or holds one that cannot be used."""


class PlanError(NnliteError):
    """A plan that cannot be made, read or followed."""


class WorkspaceError(NnliteError):
    """A file or folder of the workspace that is missing, in the way, or does not fit on the disk."""


class CheckpointError(NnliteError):
    """A trained model that cannot be loaded."""


class MemoryShortError(NnliteError):
    """A network that does not fit into the memory of a device, even one sample at a time."""


class ProcessLostError(NnliteError):
    """One of several processes or machines that work together is gone, or out of reach."""


class StoppedError(NnliteError):
    """Work that was asked to stop and did, at a point from which the same command goes on."""
