from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_pipeline import VERBS, nn

from nnlite import cli


def test_the_command_line_loads_no_heavy_library():
    heavy = "{'torch', 'numpy', 'scipy', 'SimpleITK', 'pandas', 'matplotlib', 'pydantic'}"
    code = f"import sys, nnlite.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_does_not_wait_for_torch(tmp_path: Path):
    code = (
        "import sys\nfrom nnlite.cli import main\n"
        f"sys.argv = ['nnlite', 'check', {str(tmp_path / 'missing')!r}]\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == "False\n"


def test_help_takes_less_than_half_a_second():
    def processor_s() -> float:  # not what the clock shows: other programs may keep the machine busy
        before = os.times()
        subprocess.run([sys.executable, "-m", "nnlite", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(processor_s() for _ in range(3)) < 0.5


def test_help_names_every_verb():
    shown = nn("--help")
    assert shown.exit_code == 0
    verbs = {verb.replace("_", "-") for verb in {*VERBS, "demo"} - {"fix"}}  # which is an option of check
    assert all(verb in shown.stdout for verb in verbs)


def test_the_entry_point_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["nnlite", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("nnlite ")
