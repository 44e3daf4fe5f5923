"""Imports only point from a later room to an earlier one, and each heavy package stays in its own room."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx
import pytest

PACKAGE = Path(__file__).parents[1] / "ipgl"

# Later rows may import earlier ones. `methods` follows `evaluation`: `ipg` judges its condition by the measure that
# evaluation reports. `plan` stands before `execution` and `study` after it, because the cluster runs a plan's trials.
ROWS = (
    ("core",),
    ("config",),
    ("data",),
    ("models",),
    ("evaluation",),
    ("methods",),
    ("training",),
    ("search",),
    ("report",),
    ("storage",),
    ("tracking",),
    ("trial",),
    ("plan",),
    ("execution",),
    ("study",),
    ("cluster",),
    ("cli",),
    ("api",),
    ("__main__",),
)
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}
# The package itself loads its public names from `api`, and nothing else of it.
FROM_THE_PACKAGE_ITSELF = ("api", "core")
# package -> the rooms, or the module, in which it may be imported
HOMES = {
    "ray": ("execution", "cluster", "core.private_apis"),
    "mlflow": ("tracking",),
    "optuna": ("search",),
    "plotly": ("report",),
    "typer": ("cli",),
}


def _room(module: str) -> str:
    return [*module.split("."), ""][1]


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is the module, `name` what is taken from it (empty for `import x`)."""

    line: int
    target: str
    name: str = ""


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    file: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.file.name == "__init__.py"

    @property
    def room(self) -> str:
        """The folder or file directly below the package; empty for the package itself."""
        return _room(self.name)

    def imports(self) -> Iterator[Import]:
        """Every import that can happen at run time, wherever in the file it stands."""
        yield from _imports(self.tree, self.name if self.is_package else self.name.rpartition(".")[0])


def _imports(node: ast.AST, package: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield from _imports(ast.Module([other], []), package)
        elif isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(child.lineno, alias.name)
        elif isinstance(child, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - child.level + 1]) if child.level else ""
            target = ".".join(part for part in (base, child.module) if part)
            for alias in child.names:
                yield Import(child.lineno, target, alias.name)
        else:
            if isinstance(child, ast.Call) and child.args and isinstance(child.args[0], ast.Constant):
                called = ast.unparse(child.func)
                if called in ("__import__", "import_module", "importlib.import_module"):
                    yield Import(child.lineno, str(child.args[0].value))
            yield from _imports(child, package)


def read_modules(package: Path) -> dict[str, Module]:
    modules = {}
    for file in sorted(package.rglob("*.py")):
        parts = [package.name, *file.relative_to(package).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, file, ast.parse(file.read_text(encoding="utf-8"), str(file)))
    return modules


def edges(module: Module, modules: dict[str, Module]) -> Iterator[tuple[int, str]]:
    """The package's own modules that a module imports, with the line."""
    root = next(iter(modules)).partition(".")[0]
    for found in module.imports():
        if found.target.partition(".")[0] == root:
            submodule = f"{found.target}.{found.name}"
            yield found.line, submodule if submodule in modules else found.target


def arrows_back(package: Path) -> list[str]:
    """Imports of a later room, of a room that no row names, or from one."""
    modules = read_modules(package)
    broken = []
    for module in modules.values():
        if module.room and module.room not in ROW_OF:
            broken.append(f"{module.name}: the room {module.room!r} stands in no row")
            continue
        for line, target in edges(module, modules):
            room = _room(target)
            own = ROW_OF.get(module.room, -1)
            if not module.room:
                allowed = room in FROM_THE_PACKAGE_ITSELF
            else:
                allowed = room in ("", module.room) or ROW_OF.get(room, len(ROWS)) <= own
            if not allowed:
                broken.append(f"{module.name}:{line} imports {target}")
    return broken


def _heavy(target: str) -> str:
    """The package that a module belongs to; Ray's own wrapper of Optuna counts as Optuna."""
    return "optuna" if ".optuna" in target else target.partition(".")[0]


def strays(package: Path) -> list[str]:
    """Imports of a heavy package outside its home."""
    broken = []
    for module in read_modules(package).values():
        for found in module.imports():
            top = _heavy(found.target)
            if top in HOMES and not {module.room, module.name.partition(".")[2]} & set(HOMES[top]):
                broken.append(f"{module.name}:{found.line} imports {top}")
    return broken


def busy_inits(package: Path) -> list[str]:
    """Statements of `__init__` files beyond docstring, imports from the package, `__all__` and `__version__`.

    The package's own may load its public names when they are first used.
    """
    broken = []
    for module in read_modules(package).values():
        if not module.is_package:
            continue
        reexported: set[str] = set()
        exported: set[str] = set()
        for number, node in enumerate(module.tree.body):
            match node:
                case ast.Expr(value=ast.Constant(value=str())) if number == 0:
                    pass
                case ast.ImportFrom(level=0, module=source) if source and source.startswith(
                    f"{module.name}."
                ):
                    reexported |= {alias.asname or alias.name for alias in node.names}
                case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=names)):
                    exported = {ast.literal_eval(name) for name in names}
                case ast.Assign(targets=[ast.Name(id="__version__")]) if not module.room:
                    pass
                case ast.ImportFrom(module="__future__" | "typing") if not module.room:
                    pass
                case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=[ast.ImportFrom(names=names)]) if (
                    not module.room
                ):
                    reexported |= {alias.name for alias in names}
                case ast.FunctionDef(name="__getattr__" | "__dir__") if not module.room:
                    pass
                case _:
                    broken.append(f"{module.name}:{node.lineno} {ast.unparse(node)}")
        broken += [
            f"{module.name}: {name} is not both imported and in __all__" for name in reexported ^ exported
        ]
    return broken


def cycles(package: Path) -> list[list[str]]:
    """Groups of modules that import one another; a package counts as its `__init__`."""
    modules = read_modules(package)
    graph = networkx.DiGraph()
    for module in modules.values():
        graph.add_edges_from(
            (module.name, target) for _, target in edges(module, modules) if target in modules
        )
    groups = [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]
    return sorted(groups) + [[name] for name in networkx.nodes_with_selfloops(graph)]


CHECKS = {check.__name__: check for check in (arrows_back, strays, busy_inits, cycles)}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_package_keeps_the_rule(check: Callable[[Path], object]) -> None:
    assert check(PACKAGE) == []


def test_every_room_exists_and_is_looked_at() -> None:
    modules = read_modules(PACKAGE)
    assert {module.room for module in modules.values()} == {"", *ROW_OF}
    assert len(modules) > 50
    importers = {name for name, module in modules.items() if list(edges(module, modules))}
    assert {"ipgl.cli.main", "ipgl.data.registry", "ipgl.study.runner"} <= importers


def test_every_heavy_package_is_found_in_its_home() -> None:
    tops = {(m.room, i.target.partition(".")[0]) for m in read_modules(PACKAGE).values() for i in m.imports()}
    assert {(room, package) for package, rooms in HOMES.items() for room in rooms if "." not in room} <= tops


class TestTheChecksCanFail:
    """Each check finds a violation that is planted in an otherwise sound package."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        root = tmp_path / "ipgl"
        for file, text in {
            "__init__.py": '__version__ = "1"\n',
            "core/__init__.py": "",
            "core/errors.py": "",
            "config/__init__.py": '"""Rooms re-export."""\nfrom ipgl.config.a import A\n__all__ = ["A"]\n',
            "config/a.py": "from ipgl.core.errors import E\nA = 1\n",
            "data/__init__.py": "",
            "data/b.py": "from ipgl.config import A\nfrom . import c\n",
            "data/c.py": "import torch\n",
            "trial/__init__.py": "",
            "execution/engine.py": "import ray.tune\nfrom ray import tune\n",
            "trial/run.py": (
                "from typing import TYPE_CHECKING\nfrom ipgl.data.b import B\n"
                "if TYPE_CHECKING:\n    import ray\n    from ipgl.cli.main import app\n"
            ),
        }.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text)
        return root

    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_a_sound_package_has_none(self, package: Path, check: Callable[[Path], object]) -> None:
        assert check(package) == []

    @pytest.mark.parametrize(
        ("check", "file", "text", "found"),
        [
            (arrows_back, "config/a.py", "from ipgl.data import b", ["ipgl.config.a:1 imports ipgl.data.b"]),
            (arrows_back, "config/a.py", "import ipgl.data.c", ["ipgl.config.a:1 imports ipgl.data.c"]),
            (arrows_back, "config/a.py", "from ..data.b import B", ["ipgl.config.a:1 imports ipgl.data.b"]),
            (arrows_back, "config/a.py", "from .. import data", ["ipgl.config.a:1 imports ipgl.data"]),
            (
                arrows_back,
                "config/a.py",
                "def f():\n    from ipgl.trial.run import x",
                ["ipgl.config.a:2 imports ipgl.trial.run"],
            ),
            (
                arrows_back,
                "config/a.py",
                "from ipgl.nowhere import x",
                ["ipgl.config.a:1 imports ipgl.nowhere"],
            ),
            (
                arrows_back,
                "core/errors.py",
                "from ipgl.config import A",
                ["ipgl.core.errors:1 imports ipgl.config"],
            ),
            (
                arrows_back,
                "__init__.py",
                "from ipgl.config import A",
                ["ipgl:1 imports ipgl.config"],
            ),
            (arrows_back, "attic/x.py", "", ["ipgl.attic.x: the room 'attic' stands in no row"]),
            (
                arrows_back,
                "config/a.py",
                "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import ipgl.data",
                ["ipgl.config.a:5 imports ipgl.data"],
            ),
            (strays, "trial/run.py", "import ray", ["ipgl.trial.run:1 imports ray"]),
            (strays, "trial/run.py", "from ray.tune import report", ["ipgl.trial.run:1 imports ray"]),
            (strays, "data/ray_data.py", "import ray", ["ipgl.data.ray_data:1 imports ray"]),
            (strays, "execution/engine.py", "import optuna", ["ipgl.execution.engine:1 imports optuna"]),
            (strays, "data/c.py", "import mlflow.tracking as m", ["ipgl.data.c:1 imports mlflow"]),
            (strays, "trial/run.py", "import plotly.io", ["ipgl.trial.run:1 imports plotly"]),
            (
                strays,
                "data/c.py",
                "import importlib\nm = importlib.import_module('mlflow')",
                ["ipgl.data.c:2 imports mlflow"],
            ),
            (
                strays,
                "data/c.py",
                "try:\n    x = __import__('ray')\nexcept E: pass",
                ["ipgl.data.c:2 imports ray"],
            ),
            (busy_inits, "data/__init__.py", "X = 1", ["ipgl.data:1 X = 1"]),
            (busy_inits, "data/__init__.py", "def f(): pass", ["ipgl.data:1 def f():\n    pass"]),
            (busy_inits, "data/__init__.py", "import torch", ["ipgl.data:1 import torch"]),
            (
                busy_inits,
                "data/__init__.py",
                "from ipgl.config import A\n__all__ = ['A']",
                ["ipgl.data:1 from ipgl.config import A", "ipgl.data: A is not both imported and in __all__"],
            ),
            (
                busy_inits,
                "data/__init__.py",
                "from ipgl.data.b import B\n__all__ = []",
                ["ipgl.data: B is not both imported and in __all__"],
            ),
            (cycles, "data/c.py", "from ipgl.data.b import B", [["ipgl.data.b", "ipgl.data.c"]]),
            (cycles, "config/a.py", "from ipgl.config import A", [["ipgl.config", "ipgl.config.a"]]),
            (
                cycles,
                "data/c.py",
                "def f():\n    from ipgl.trial.run import x",
                [["ipgl.data.b", "ipgl.data.c", "ipgl.trial.run"]],
            ),
            (cycles, "data/c.py", "import ipgl.data.c", [["ipgl.data.c"]]),
        ],
    )
    def test_a_planted_violation_is_found(
        self,
        package: Path,
        check: Callable[[Path], object],
        file: str,
        text: str,
        found: list[str | list[str]],
    ) -> None:
        (package / file).parent.mkdir(exist_ok=True)
        (package / file).write_text(text)
        assert check(package) == found
