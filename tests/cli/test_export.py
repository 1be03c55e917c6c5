from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from fake_pipeline import FakePipeline, nn

from nnlite.errors import UsageError
from nnlite.inference.postprocess import Postprocessing, Rule


def exported(path: Path, *, licensed: bool) -> SimpleNamespace:
    path.write_bytes(b"0" * 1_234_567)
    rules = Postprocessing(rules=(Rule(operation="keep_largest"),))
    model = {"members": ("2d", "3d"), "folds": ("fold0", "fold1"), "runs": (1, 2, 3, 4), "selected": object()}
    model |= {"postprocessing": rules}
    plan = SimpleNamespace(dataset="brain")
    return SimpleNamespace(path=path, plan=plan, model=SimpleNamespace(**model), licensed=licensed)


def test_export_says_what_is_in_the_file(pipeline: FakePipeline, tmp_path: Path):
    path = tmp_path / "m.nnlite"
    pipeline.answers["export"] = exported(path, licensed=False)
    shown = nn("export", "brain", "-o", str(path), "--config", "3d", "--folds", "fold0,fold1", "--work", "w")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "2d + 3d fold0 + fold1, as selected; postprocessing: all foreground: only the largest component",
        f"brain: 4 networks, 1.2 MB -> {path}",
    ]
    assert "no licence is stated" in shown.stderr
    [(verb, arguments, options)] = pipeline.calls
    assert (verb, arguments) == ("export", (Path("brain"), path))
    expected = {"work": Path("w"), "configuration": "3d", "folds": ("fold0", "fold1"), "licence": None, "force": False}
    assert options == expected


def test_a_licence_is_passed_on_and_nothing_is_said_of_it(pipeline: FakePipeline, tmp_path: Path):
    pipeline.answers["export"] = exported(tmp_path / "m", licensed=True)
    for option in ("--licence", "--license"):
        shown = nn("export", "brain", "-o", str(tmp_path / "m"), option, "terms.txt", "--force")
        assert shown.stderr == ""
        options = pipeline.calls[-1][2]
        assert (options["licence"], options["force"]) == (Path("terms.txt"), True)


def test_what_cannot_be_exported_is_one_message(pipeline: FakePipeline, tmp_path: Path):
    pipeline.answers["export"] = UsageError("m.nnlite exists already; add --force")
    shown = nn("export", "brain", "-o", "m.nnlite")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "m.nnlite exists already" in shown.stderr
