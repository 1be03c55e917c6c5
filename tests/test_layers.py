"""The house keeps its order: a stage imports only from the stages before it, heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nnlite

PACKAGE = Path(nnlite.__file__).parent

RANKS = {
    "errors": 0,
    "data": 1,
    "planning": 2,
    "preprocessing": 3,
    "networks": 4,
    "training": 5,
    "inference": 5,  # beside training: neither imports the other, pipeline joins them
    "evaluation": 6,
    "interop": 7,
    "workspace": 8,
    "pipeline": 9,
    "demo": 10,  # data for the command line: paths and the commands a user would type
    "cli": 11,
    "__main__": 12,
}
LAZY_FRONT = "__init__"  # nnlite/__init__.py runs before every other module: it may offer them, but only lazily

ONLY_IN = {
    "SimpleITK": ("data/image.py",),
    "pandas": ("evaluation/",),
    "typer": ("cli/",),
    "rich": ("cli/screen.py",),
}
ALWAYS_LAZY = ("SimpleITK", "pandas")  # slow to load, and not every command needs them
NEVER_IN = {"torch": ("errors.py", "data/", "planning/", "workspace.py", "demo.py", "cli/")}
SPEAKS_TO_THE_USER = ("cli/",)
SETS_A_VARIABLE = ("training/deterministic.py",)  # cuBLAS can be told of determinism in no other way


def imported(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Line, dotted name, and whether the import runs when the module is loaded, of every import in a module."""
    lazy = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test))
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        at_load = id(node) not in lazy
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            names = [f"{source}.{alias.name}" for alias in node.names] if source == "nnlite" else [source]
            yield from ((node.lineno, name, at_load) for name in names)


def violations(package: Path) -> list[str]:
    """Everything in a package that breaks the order of the house, as "file:line: what"."""
    found = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        room = place.split("/")[0].removesuffix(".py")
        if room not in RANKS and room != LAZY_FRONT:
            found.append(f"{place}:1: {room} has no place in the order of the layers")
            continue
        for line, name, at_load in imported(tree):
            found += [f"{place}:{line}: {fault}" for fault in _import_faults(place, room, name, at_load)]
        found += [f"{place}:{line}: {fault}" for line, fault in _speaking(place, tree)]
    return found


def _import_faults(place: str, room: str, name: str, at_load: bool) -> Iterator[str]:
    library, _, rest = name.partition(".")
    if name.startswith("."):
        yield f"imports {name} relatively; name it from nnlite on"
    elif library == "nnlite":
        yield from _order_faults(room, rest.split(".")[0], at_load)
    if library in ONLY_IN and not place.startswith(ONLY_IN[library]):
        yield f"imports {library}, which belongs in {', '.join(ONLY_IN[library])}"
    if library in ALWAYS_LAZY and at_load:
        yield f"imports {library} when it is loaded; import it where it is used"
    if library in NEVER_IN and place.startswith(NEVER_IN[library]):
        yield f"imports {library}"


def _order_faults(room: str, target: str, at_load: bool) -> Iterator[str]:
    if room == LAZY_FRONT:
        if at_load:
            yield f"imports nnlite.{target} whenever anything of nnlite is imported"
    elif target in RANKS and target != room and RANKS[target] >= RANKS[room]:
        yield f"{room} imports {target}, which comes later"


def _speaking(place: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if place.startswith(SPEAKS_TO_THE_USER):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield node.lineno, "prints"
            case _ if place in SETS_A_VARIABLE:
                continue
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv"):
                yield node.lineno, "reads the environment"
            case ast.ImportFrom(module="os") if {alias.name for alias in node.names} & {"environ", "getenv"}:
                yield node.lineno, "reads the environment"


def test_every_module_keeps_the_order_of_the_layers():
    assert violations(PACKAGE) == []


def test_every_room_of_the_package_was_looked_at():
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {"data", "planning", "training", "inference", "cli"} <= rooms


def house(folder: Path, files: dict[str, str]) -> Path:
    """A made-up package."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_an_import_from_a_later_stage_is_caught_in_all_its_forms(tmp_path: Path):
    for statement in (
        "import nnlite.training.loss",
        "from nnlite.training.loss import dice",
        "from nnlite import training",
        "def f():\n    from nnlite.training import loss",
    ):
        faults = violations(house(tmp_path, {"data/image.py": statement}))
        assert len(faults) == 1
        assert "data imports training, which comes later" in faults[0]


def test_training_and_inference_do_not_know_each_other(tmp_path: Path):
    package = house(
        tmp_path,
        {"training/a.py": "from nnlite.inference import b", "inference/b.py": "from nnlite.training import a"},
    )
    assert len(violations(package)) == 2


def test_imports_from_earlier_stages_and_from_the_own_room_are_allowed(tmp_path: Path):
    allowed = "from nnlite.training import b\nfrom nnlite.errors import NnliteError\nimport torch"
    package = house(tmp_path, {"training/a.py": allowed})
    assert violations(package) == []


def test_heavy_libraries_outside_of_their_rooms_are_caught(tmp_path: Path):
    package = house(
        tmp_path,
        {
            "data/image.py": "import SimpleITK as sitk",
            "data/labels.py": "def f():\n    import SimpleITK",
            "planning/planner.py": "import torch.nn",
            "preprocessing/store.py": "def f():\n    import pandas",
        },
    )
    assert [fault.partition(" ")[2] for fault in violations(package)] == [
        "imports SimpleITK when it is loaded; import it where it is used",
        "imports SimpleITK, which belongs in data/image.py",
        "imports torch",
        "imports pandas, which belongs in evaluation/",
    ]


def test_printing_and_reading_the_environment_are_caught_outside_of_the_command_line(tmp_path: Path):
    talkative = "import os\nprint(os.environ)\nfrom os import getenv\n"
    package = house(tmp_path, {"data/labels.py": talkative, "cli/screen.py": talkative})
    assert sorted(fault.partition(" ")[2] for fault in violations(package)) == [
        "prints",
        "reads the environment",
        "reads the environment",
    ]


def test_the_one_module_that_sets_a_variable_may_not_print(tmp_path: Path):
    package = house(tmp_path, {"training/deterministic.py": "import os\nprint(os.environ)\n"})
    assert [fault.partition(" ")[2] for fault in violations(package)] == ["prints"]


def test_an_unknown_room_a_relative_import_and_an_eager_front_are_caught(tmp_path: Path):
    package = house(
        tmp_path,
        {
            "__init__.py": "from nnlite import pipeline\ndef __getattr__(name):\n    from nnlite import cli",
            "data/labels.py": "from .split import Splits",
            "utils/things.py": "",
        },
    )
    assert violations(package) == [
        "__init__.py:1: imports nnlite.pipeline whenever anything of nnlite is imported",
        "data/labels.py:1: imports .split relatively; name it from nnlite on",
        "utils/things.py:1: utils has no place in the order of the layers",
    ]
