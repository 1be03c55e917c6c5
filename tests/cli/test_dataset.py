from __future__ import annotations

from types import SimpleNamespace

from fake_pipeline import FakePipeline, nn

from nnlite.errors import DatasetError


def report(faults: tuple[str, ...] = ()) -> SimpleNamespace:
    def raise_if_faulty() -> None:
        if faults:
            raise DatasetError("\n".join((f"{len(faults)} of 4 cases cannot be used:", *faults)))

    labels = SimpleNamespace(foreground=("tumour",))
    dataset = SimpleNamespace(name="brain", layout="nnU-Net v2", cases=(1, 2, 3, 4), channels=("CT",), labels=labels)
    return SimpleNamespace(
        dataset=dataset, warnings=("one case is tiny",), faults=faults, raise_if_faulty=raise_if_faulty
    )


def test_check_says_that_a_dataset_has_no_faults(pipeline: FakePipeline):
    pipeline.answers["check"] = report()
    shown = nn("check", "brain")
    assert shown.exit_code == 0
    assert shown.stdout == "brain: nnU-Net v2, 4 cases\nchannels: CT; labels: tumour\nno faults found\n"
    assert shown.stderr == "warning: one case is tiny\n"


def test_what_was_corrected_in_a_copy_is_told_case_by_case(pipeline: FakePipeline):
    repairs = {"a": ("images/a.nii: straightened", "labels/a.nii: straightened"), "b": ("images/b.nii: 1 single axis",)}
    pipeline.answers["fix"] = SimpleNamespace(folder="copy", repairs=repairs, report=report())
    shown = nn("check", "brain", "--fix", "copy")
    assert shown.stdout.splitlines()[:4] == [
        "a: images/a.nii: straightened",
        "a: labels/a.nii: straightened",
        "b: images/b.nii: 1 single axis",
        "2 cases corrected in a copy of the dataset -> copy",
    ]
    assert shown.stdout.endswith("no faults found\n")
    assert [verb for verb, _, _ in pipeline.calls] == ["fix"]


def test_three_faults_are_one_message_with_status_2(pipeline: FakePipeline):
    faults = ("a: NaN", "b: truncated file [/b]", "c: spacing (1, 1, 1) mm but (1, 1, 2) mm")
    pipeline.answers["check"] = report(faults)
    shown = nn("check", "brain")
    assert shown.exit_code == 2
    assert shown.stderr.endswith("error: 3 of 4 cases cannot be used:\n" + "\n".join(faults) + "\n")
    assert "no faults" not in shown.stdout
