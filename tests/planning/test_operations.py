from __future__ import annotations

from nnlite.planning.operations import Tape


def test_a_block_is_a_convolution_its_norm_and_an_activation_that_overwrites() -> None:
    tape = Tape((6, 10, 10), channels=2, labels=3)
    x = tape.block(tape.image, 4, (1, 3, 3), (1, 2, 2))
    convolution, norm, activation = tape.operations
    assert (x.size, x.voxels, x.features) == ((6, 5, 5), 150, 4)
    assert convolution.weights == 9 * 2 * 4 + 4
    assert convolution.multiplications == 9 * 2 * 4 * 150
    assert norm.weights == 2 * 4
    assert [one.overwrites for one in tape.operations] == [False, False, True]
    assert activation.saves == (x,)


def test_a_transposed_convolution_undoes_a_stride_and_looks_at_one_voxel_each() -> None:
    tape = Tape((4, 8), channels=4, labels=2)
    x = tape.transposed_convolution(tape.image, 2, (1, 2))
    assert x.size == (4, 16)
    assert tape.operations[-1].multiplications == 4 * 2 * 4 * 16


def test_only_convolutions_and_the_head_of_full_resolution_count_in_nnunet_s_estimate() -> None:
    tape = Tape((8, 8), channels=1, labels=2)
    below = tape.block(tape.image, 4, (3, 3), (2, 2))
    tape.head(below)
    tape.head(tape.transposed_convolution(below, 4, (2, 2)))
    counted = [(one.kind, one.output.size) for one in tape.operations if one.counted]
    assert counted == [("convolution", (4, 4)), ("convolution", (8, 8)), ("convolution", (8, 8))]
    assert [head.size for head in tape.heads] == [(8, 8), (4, 4)]


def test_stages_are_parts_only_where_they_are_computed_twice() -> None:
    for checkpointing in (False, True):
        tape = Tape((8, 8), channels=1, labels=2, checkpointing=checkpointing)
        with tape.stage():
            x = tape.block(tape.image, 4, (3, 3))
        with tape.stage():
            x = tape.block(x, 4, (3, 3))
        tape.head(x)
        parts = [one.part for one in tape.operations]
        assert parts == ([0, 0, 0, 3, 3, 3, None] if checkpointing else [None] * 7)
