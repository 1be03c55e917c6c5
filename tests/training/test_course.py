"""A course knows its best epoch, and a state is saved when it is time."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from nnlite.training.course import Course, Saver


def test_the_best_epoch_is_chosen_by_the_moving_average() -> None:
    course = Course()
    assert course.follow(0.5)  # the average starts with the first number
    assert not course.follow(None)  # an epoch that tells nothing
    assert not course.follow(0.4)  # 0.9 x 0.5 + 0.1 x 0.4 = 0.49
    assert course.moving_dice == pytest.approx(0.49)
    assert not course.follow(0.55)  # a good epoch, but the average is only 0.496
    assert course.follow(0.6)  # 0.5064
    assert course.best_dice == pytest.approx(0.5064)


def test_a_finished_epoch_leaves_nothing_of_its_steps() -> None:
    course = Course(epoch=3, steps=7, skipped=1, loss_sum=2.0, trained_s=5.0, waited_s=1.0, elapsed_s=60.0)
    course.next_epoch()
    assert asdict(course) == asdict(Course(epoch=4, elapsed_s=60.0))


def test_a_save_is_due_so_long_after_the_last_one() -> None:
    now, saved = [0.0], []
    saver = Saver(lambda: saved.append(now[0]), stop=lambda: now[0] > 15, every_s=5.0, clock=lambda: now[0])
    for moment in range(20):
        now[0] = float(moment)
        if saver.due():
            saver.save()
    assert saved == [5.0, 10.0, 15.0]
    assert saver.asked_to_stop()


def test_patience_ends_so_many_epochs_after_the_best() -> None:
    course, ended = Course(), []
    for dice in (0.5, 0.6, 0.1, 0.1, None, 0.1):
        course.follow(dice)
        course.next_epoch()
        ended.append(course.out_of_patience(3))
    assert ended == [False, False, False, False, True, True]  # the second epoch was the best
    assert not course.out_of_patience(None)


def test_the_rate_falls_again_only_after_as_many_epochs_more() -> None:
    course, drops = Course(), []
    for dice in (0.5, 0.4, 0.3, 0.3, 0.3, 9.0, 0.3, 0.3, 0.3):
        course.follow(dice)
        course.drop_if_stale(2)
        course.next_epoch()
        drops.append(course.drops)
    assert drops == [0, 0, 1, 1, 2, 2, 2, 3, 3]
