"""What is alive when, on tapes so short that it can be counted by hand; an element takes one byte."""

from __future__ import annotations

from nnlite.planning.operations import Map, Operation, Tape
from nnlite.planning.passes import Loss, forward, saved_maps, step


class Elements:
    """Every value takes a byte, and nothing takes more than what goes in and out."""

    def map(self, one: Map) -> int:
        return one.voxels * one.features

    def weights(self, operation: Operation) -> int:
        return operation.weights

    def kept(self, operation: Operation) -> int:
        return 0

    def working(self, operation: Operation) -> int:
        return 0 if operation.overwrites else self.map(operation.output)

    def working_back(self, operation: Operation, *, partial: bool) -> int:
        return 0 if operation.kind in ("add", "cat") else sum(self.map(one) for one in operation.inputs if one.learns)


def two_stages(*, checkpointing: bool = False) -> Tape:
    """Two blocks of 4 features on 10 voxels, each a stage, and a head of 2 labels."""
    tape = Tape((10, 1), channels=1, labels=2, checkpointing=checkpointing)
    x = tape.image
    for _ in range(2):
        with tape.stage():
            x = tape.block(x, 4, (1, 1))
    tape.head(x)
    return tape


def losses(tape: Tape) -> list[Loss]:
    return [Loss(head=head, kept=0, working=0, working_back=0) for head in tape.heads]


def test_without_a_backward_a_map_dies_with_its_last_reader() -> None:
    tape = two_stages()
    # convolution, norm beside it, activation in its place; the second block begins beside the first's result
    assert list(forward(tape.operations, Elements(), saved=(), held={})) == [40, 80, 40, 80, 80, 40, 60]


def test_a_map_that_a_frame_holds_lives_on() -> None:
    tape = Tape((10, 1), channels=4, labels=2)
    x = tape.activation(tape.norm(tape.image))
    tape.head(tape.block(x, 4, (1, 1)))
    tape.hold(x)
    assert list(forward(tape.operations, Elements(), saved=(), held=tape.held)) == [40, 40, 80, 120, 80, 100]


def test_each_block_keeps_what_its_norm_and_its_successor_read() -> None:
    tape = two_stages()
    assert len(saved_maps(tape)) == 1 + 2 * 2 + 1  # the image, two maps per block, the logits
    moments = list(step(tape, Elements(), losses(tape)))
    assert max(moment.activations for moment in moments) == 10 + 4 * 40 + 20
    assert moments[-1].gradients == sum(one.weights for one in tape.operations[1:])  # the first's own come last


def test_of_stages_that_are_computed_twice_only_what_passes_between_them_is_kept() -> None:
    tape = two_stages(checkpointing=True)
    assert len(saved_maps(tape)) == 1 + 2 + 1  # the image, what each stage puts out, the logits
    moments = list(step(tape, Elements(), losses(tape)))
    at_the_loss = 10 + 2 * 40 + 20
    assert moments[len(tape.operations)].activations == at_the_loss
    # The head's backward frees the second stage's result; then two of its maps are made again.
    assert max(moment.activations for moment in moments) == max(at_the_loss, at_the_loss - 40 + 2 * 40)


def test_a_sum_hands_its_gradient_to_both_terms_without_a_copy() -> None:
    tape = Tape((10, 1), channels=1, labels=2)
    x = tape.block(tape.image, 4, (1, 1))
    tape.head(tape.add(x, tape.norm(x)))
    moments = list(step(tape, Elements(), losses(tape)))
    backward = moments[-6:]  # head, sum, norm, activation, norm, convolution
    # One gradient of 40 goes through the sum; the norm below makes another, which is added in place.
    assert [moment.passing for moment in backward] == [20 + 40, 40, 40 + 40, 40 + 40, 40 + 40, 40]


def test_halves_of_a_cat_s_gradient_keep_it_whole_until_both_are_used() -> None:
    tape = Tape((10, 1), channels=1, labels=2)
    x = tape.block(tape.image, 4, (1, 1))
    tape.head(tape.cat(x, tape.norm(x)))
    moments = list(step(tape, Elements(), losses(tape)))
    # At the norm: the cat's gradient of 80 and the one that is made; then their sum beside both.
    assert [moment.passing for moment in moments[-6:]] == [80, 80 + 40, 80 + 40 + 40, 40 + 40, 40 + 40, 40]
