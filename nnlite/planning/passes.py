"""Run the operations of a tape forward and backward, and tell at every moment what is alive, in bytes.

Numbers in, numbers out, no torch. A map lives from the operation that makes it to the last that needs it, or, where
autograd saves it, to the backward of the first that did (torch's documentation: "Autograd mechanics"). A gradient that
two operations hand back is added up: in place, unless the first is still part of something else. Maps that operations
of a checkpointed part save among themselves live only from when the part is computed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from nnlite.planning.operations import Map, Operation, Tape


class Bytes(Protocol):
    """What maps and operations take, for a whole batch."""

    def map(self, one: Map) -> int:
        """A map, or its gradient."""

    def weights(self, operation: Operation) -> int:
        """The weights of an operation, or their gradients."""

    def kept(self, operation: Operation) -> int:
        """Copies that autograd keeps for an operation, beside maps."""

    def working(self, operation: Operation) -> int:
        """What an operation takes while it runs forward, its output included."""

    def working_back(self, operation: Operation, *, partial: bool) -> int:
        """What it takes while it runs backward, its inputs' gradients included; ``partial``: its output's is a view."""


class Loss(NamedTuple):
    """The loss of one head, in bytes: what autograd keeps, and what it takes while it runs forward and backward."""

    head: Map
    kept: int
    working: int
    working_back: int


class Moment(NamedTuple):
    """Bytes alive: gradients of weights, what is kept for the backward pass, and all that is passing."""

    gradients: int
    activations: int
    passing: int


def saved_maps(tape: Tape) -> set[Map]:
    """Maps that live from the forward to the backward pass."""
    needed = _Needs(tape.operations)
    return {one for operation in tape.operations for one, within in needed.of(operation) if not within} | {*tape.heads}


def forward(
    operations: Sequence[Operation], bytes_: Bytes, *, saved: Collection[Map], held: dict[Map, int], first: int = 0
) -> Iterator[int]:
    """Bytes alive while each operation runs, what is ``saved`` aside.

    ``held`` tells when frames let go of maps, by the number of operations of the tape that have run by then; ``first``
    have run before these.
    """
    ends = {one: number for number, operation in enumerate(operations, first + 1) for one in operation.inputs}
    ends |= {one: number for one, number in held.items() if number > ends.get(one, 0)}
    ending: dict[int, int] = Counter()  # bytes that die with an operation
    alive = 0
    for number, operation in enumerate(operations, first + 1):
        yield alive + bytes_.working(operation)
        output, size = operation.output, bytes_.map(operation.output)
        if operation.overwrites:
            alive -= size
            ending[ends[operation.inputs[0]]] -= size
        if output not in saved:
            alive += size
            ending[max(number, ends.get(output, 0))] += size
        alive -= ending[number]


def step(tape: Tape, bytes_: Bytes, losses: Sequence[Loss]) -> Iterator[Moment]:
    """All moments of a step from the image to the gradients of all weights; ``losses`` in the order of the heads."""
    saved = saved_maps(tape)
    activations = bytes_.map(tape.image)
    passing = forward(tape.operations, bytes_, saved=saved, held=tape.held)
    for operation, now in zip(tape.operations, passing, strict=True):
        yield Moment(0, activations, now)
        activations += bytes_.map(operation.output) if operation.output in saved else 0
        activations += bytes_.kept(operation) if operation.part is None else 0
    for loss in losses:
        yield Moment(0, activations, loss.working)
        activations += loss.kept
    gradients = _Gradients(bytes_)
    for loss in reversed(losses):
        yield Moment(0, activations, gradients.waiting + loss.working_back)
        gradients.give(loss.head, _Gradient(_Storage(bytes_.map(loss.head))))
        activations -= loss.kept
    yield from _backward(tape, bytes_, activations, gradients)


def _backward(tape: Tape, bytes_: Bytes, activations: int, gradients: _Gradients) -> Iterator[Moment]:
    needs = _Needs(tape.operations)
    left = Counter(need for operation in tape.operations for need in needs.of(operation))
    left.update((head, False) for head in tape.heads)  # whoever asked for them holds them until the step is over
    part, weights = None, 0
    for operation in reversed(tape.operations):
        if operation.part not in (None, part):
            again = needs.of_part(operation.part)
            first = tape.operations.index(again[0])
            within = {one for other in again for one, inside in needs.of(other) if inside}
            for passing in forward(again, bytes_, saved=within, held=tape.held, first=first):
                yield Moment(weights, activations, gradients.waiting + passing)
            activations += sum(map(bytes_.map, within)) + sum(map(bytes_.kept, again))
        part = operation.part
        if (gradient := gradients.by_map.get(operation.output)) is not None:
            working = bytes_.working_back(operation, partial=gradient.partial)
            yield Moment(weights, activations, gradients.waiting + working)
            gradients.take(operation.output)
            for one in operation.inputs:
                if adding := gradients.give(one, _handed_back(operation, one, gradient, bytes_)):
                    yield Moment(weights, activations, gradients.waiting + adding)
        weights += bytes_.weights(operation)  # the lowest head's too, which has no loss: next to nothing
        activations -= bytes_.kept(operation)
        for need in needs.of(operation):
            left[need] -= 1
            activations -= 0 if left[need] else bytes_.map(need[0])


class _Needs:
    """Which maps the backward of an operation needs, and whether they are made in its own checkpointed part."""

    def __init__(self, operations: Sequence[Operation]):
        self.operations = operations
        self.made_in = {operation.output: operation.part for operation in operations}

    def of(self, operation: Operation) -> set[tuple[Map, bool]]:
        """What it saves; and what comes into its part from elsewhere, which is kept to compute the part again."""
        if operation.part is None:
            return {(one, False) for one in operation.saves}
        made = {one: self.made_in.get(one) == operation.part for one in (*operation.saves, *operation.inputs)}
        return {(one, inside) for one, inside in made.items() if one in operation.saves or not inside}

    def of_part(self, part: int | None) -> list[Operation]:
        """The operations that are computed again together."""
        return [operation for operation in self.operations if operation.part == part]


class _Storage:
    """Memory of a gradient, by however many names it is known."""

    __slots__ = ("owners", "size")

    def __init__(self, size: int):
        self.size, self.owners = size, 0


class _Gradient(NamedTuple):
    """A gradient; ``partial``: a view of a larger one."""

    storage: _Storage
    partial: bool = False


class _Gradients:
    """Gradients of maps that wait for the operation that made the map."""

    def __init__(self, bytes_: Bytes):
        self.bytes, self.waiting = bytes_, 0
        self.by_map: dict[Map, _Gradient] = {}

    def give(self, one: Map, gradient: _Gradient) -> int:
        """Hand a gradient back to a map; the bytes that both terms need for a moment where they are not added in place.

        Nothing is handed to the image.
        """
        if not one.learns:
            return 0
        if one not in self.by_map:
            self._own(one, gradient)
            return 0
        first = self.by_map[one]
        if first.storage.owners == 1 and not first.partial:
            return 0
        shared, size = gradient.storage.owners > 0, self.bytes.map(one)
        freed = self.waiting
        self.take(one)
        freed -= self.waiting
        self._own(one, _Gradient(_Storage(size)))
        return freed if shared else freed + size

    def take(self, one: Map) -> None:
        """The map's gradient is needed no more."""
        storage = self.by_map.pop(one).storage
        storage.owners -= 1
        self.waiting -= 0 if storage.owners else storage.size

    def _own(self, one: Map, gradient: _Gradient) -> None:
        self.waiting += 0 if gradient.storage.owners else gradient.storage.size
        gradient.storage.owners += 1
        self.by_map[one] = gradient


def _handed_back(operation: Operation, one: Map, gradient: _Gradient, bytes_: Bytes) -> _Gradient:
    """The gradient of an input: a sum passes on that of its output as it is, a cat a piece of it."""
    if operation.kind == "add":
        return gradient
    if operation.kind == "cat":
        return _Gradient(gradient.storage, partial=True)
    return _Gradient(_Storage(bytes_.map(one)))
