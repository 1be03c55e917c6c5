"""Use a compiled network where a short test on this machine shows that it works and that it pays.

Whether ``torch.compile`` helps depends on device, driver, compiler and network, and it fails in many ways; so it is
tried at the start of a training, on one batch, and whatever goes wrong leaves the network as it was.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

ROUNDS = 5  # timed passes of either network, in turn
GAIN_NEEDED = 1.03  # a smaller gain is within the noise of so few passes
DROPOUT = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)
LOSS_TOLERANCE = 0.01  # relative: a compiled network rounds otherwise, in half precision visibly

logger = logging.getLogger(__name__)


def compiled_if_faster(
    network: nn.Module,
    try_out: Callable[[nn.Module], float],
    *,
    compiler: Callable[[nn.Module], nn.Module] = torch.compile,  # type: ignore[assignment]
    clock: Callable[[], float] = time.perf_counter,
) -> nn.Module:
    """The compiled network if it gives the same loss sooner, else ``network`` itself; they share their weights.

    ``try_out`` runs a module forth and back on always the same batch, waits for the device, and returns the loss; it
    must leave the weights alone. Losses are compared without dropout, which draws otherwise when it is compiled; time
    is taken with it. The reason for the choice is logged.
    """
    try:
        compiled = compiler(network)
        with _without_dropout(network):
            wanted, got = try_out(network), try_out(compiled)  # the first pass compiles
        seconds: dict[str, list[float]] = {"eager": [], "compiled": []}
        for _ in range(ROUNDS):
            for name, module in (("eager", network), ("compiled", compiled)):
                started = clock()
                try_out(module)
                seconds[name].append(clock() - started)
    except Exception as error:  # the compiler's errors are of many kinds, and none may end a training
        logger.warning("torch.compile does not work here (%s); training goes on without it", error)
        return network
    eager_s, compiled_s = (statistics.median(measured) for measured in seconds.values())
    if not math.isclose(got, wanted, rel_tol=LOSS_TOLERANCE):
        logger.warning("torch.compile gives a loss of %g instead of %g; training goes on without it", got, wanted)
        return network
    pays = compiled_s * GAIN_NEEDED < eager_s
    logger.info("a pass takes %.4f s, compiled %.4f s: %s", eager_s, compiled_s, "compiled" if pays else "not compiled")
    return compiled if pays else network


@contextmanager
def _without_dropout(network: nn.Module) -> Iterator[None]:
    """Everything trains meanwhile as it did, but nothing is dropped."""
    active = [module for module in network.modules() if isinstance(module, DROPOUT) and module.training]
    for module in active:
        module.eval()
    try:
        yield
    finally:
        for module in active:
            module.train()
