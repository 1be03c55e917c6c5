"""Which plots a report has."""

from __future__ import annotations

from dataclasses import replace

from small_report import small_report

from nnlite.evaluation.report.figures import (
    dataset_figures,
    distribution_figures,
    reliability_figures,
    selection_figure,
    training_figures,
)


def test_a_dataset_of_one_spacing_has_plots_of_sizes_intensities_and_volumes_only():
    report = small_report()
    labels = report.labels.foreground
    drawn = dataset_figures(report.dataset, report.main, ("MR",), labels)
    assert len(drawn) == 5
    spacings = tuple((2.0, 1.0, 1.0 + number / 10) for number in range(20))
    mixed = replace(report.dataset, fingerprint=replace(report.dataset.fingerprint, spacings_mm=spacings))
    assert len(dataset_figures(mixed, report.main, ("MR",), labels)) == 6
    assert len(dataset_figures(replace(report.dataset, planar=True), None, ("MR",), labels)) == 3


def test_curves_have_a_line_per_fold_and_label():
    report = small_report()
    loss, dice, rate = training_figures(report.courses, report.labels.foreground)
    assert loss.drawing.count("<polyline") == 4  # training and validation of two folds
    assert dice.drawing.count("<polyline") == 4  # two labels of two folds
    assert rate.drawing.count("<polyline") == 2


def test_with_very_many_labels_only_the_main_candidate_s_distributions_are_drawn():
    report = small_report()
    [dice, *_] = distribution_figures(report)
    assert "core · 2d + 3d" in dice.drawing
    names = ("background", *(f"label {number}" for number in range(1, 13)))
    many = replace(
        report, plan=replace(report.plan, labels=replace(report.labels, names=names, values=tuple(range(13))))
    )
    assert all("2d + 3d" not in figure.drawing for figure in distribution_figures(many))


def test_the_expected_dice_is_a_plot_for_each_label_that_has_one():
    report = small_report()
    assert report.reliability is not None
    [core] = reliability_figures(report.reliability, report.labels.foreground)
    assert core.drawing.count("<circle") == len(report.reliability.rows)


def test_the_chosen_candidate_is_marked():
    report = small_report()
    assert report.evidence is not None
    assert selection_figure(report.evidence).drawing.count("var(--accent)") == 2  # its dot and its interval
