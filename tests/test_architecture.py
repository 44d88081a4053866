"""The import layers, read from the source: lower never imports higher, islands never import each other."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATION = {"records", "errors", "units", "registry", "paths", "machine", "atomic", "logfilter"}
ISLANDS = {"store", "device", "meters", "workloads", "costmodel", "plan", "report"}
JOINTS = {"measure", "tracing"}
HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "flwr",
    "sklearn",
    "skops",
    "scipy",
    "pandas",
    "pyarrow",
    "numpy",
    "altair",
    "rich",
    "jtop",
    "vl_convert",
    "ray",
}
# A joint or a root may import what lies below; measure's child and the harness may read the device.
MAY_IMPORT = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    **{name: FOUNDATION | {name} for name in ISLANDS},
    **{name: FOUNDATION | ISLANDS | {name} for name in JOINTS},
    "cli": FOUNDATION | ISLANDS | JOINTS | {"cli"},
    "__main__": {"cli"},
    # The package itself offers names lazily; under TYPE_CHECKING it names their homes.
    "__init__": FOUNDATION | ISLANDS,
}
# Where a heavy library may be imported at the top of a module: the leaves that exist for it.
HEAVY_AT_TOP = {
    "devprof/workloads/seeds.py": {"torch"},
    "devprof/workloads/chains.py": {"torch"},
    "devprof/workloads/training.py": {"torch"},
    "devprof/costmodel/trace.py": {"torch"},
    "devprof/measure/replay.py": {"torch"},
}
NUMPY_AT_TOP = ("devprof/costmodel/", "devprof/plan/")


def sources(package):
    return sorted(path for path in (ROOT / package).rglob("*.py"))


def imports(path, *, top_only=False):
    """Dotted names imported by a module; with ``top_only`` those at its top, outside ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def part_of(path):
    relative = path.relative_to(ROOT / "devprof")
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sources("devprof"), ids=lambda path: str(path.relative_to(ROOT)))
def test_lower_layers_do_not_import_higher_ones(path):
    allowed = MAY_IMPORT[part_of(path)]
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "devprof" and rest:
            assert rest[0] in allowed, f"{path} imports {name}"
        if top == "strategies":
            assert part_of(path) == "cli", f"{path} imports {name}"
        assert top != "flwr", f"{path} imports flwr; only strategies may"


def test_the_command_line_imports_strategies_only_inside_functions():
    for path in sources("devprof/cli"):
        assert not [name for name in imports(path, top_only=True) if name.split(".")[0] == "strategies"], path


def test_data_set_descriptions_import_nothing_of_devprof():
    for path in sources("datasets_meta"):
        assert not [name for name in imports(path) if name.split(".")[0] in {"devprof", "strategies"} | HEAVY], path


@pytest.mark.parametrize("path", sources("devprof"), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path):
    relative = str(path.relative_to(ROOT))
    allowed = HEAVY_AT_TOP.get(relative, set()) | ({"numpy"} if relative.startswith(NUMPY_AT_TOP) else set())
    at_top = {name.split(".")[0] for name in imports(path, top_only=True)}
    assert at_top & HEAVY <= allowed, f"{relative} imports {at_top & HEAVY - allowed} at its top"


def test_the_foundation_uses_the_standard_library_only():
    for path in (path for path in sources("devprof") if part_of(path) in FOUNDATION):
        for imported in imports(path):
            assert imported.split(".")[0] in sys.stdlib_module_names | {"devprof"}, f"{path} imports {imported}"


def _loaded_after(statement):
    script = f"import sys; {statement}; print(','.join(sorted({HEAVY!r} & set(sys.modules))))"
    environment = os.environ | {"PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return set(filter(None, done.stdout.strip().split(",")))


def test_the_command_line_loads_nothing_heavy():
    assert _loaded_after("import devprof.cli") == set()


def test_the_package_loads_nothing_heavy():
    assert _loaded_after("import devprof") == set()


def test_every_commands_module_loads_nothing_heavy():
    modules = ", ".join(f"devprof.cli.{path.stem}" for path in sources("devprof/cli") if path.stem != "__init__")
    assert _loaded_after(f"import {modules}") == set()


def test_the_parent_of_a_sweep_never_loads_torch():
    assert not _loaded_after("import devprof.measure.sweep, devprof.store.folder") & {
        "torch",
        "timm",
        "pandas",
        "sklearn",
    }


def test_there_are_no_import_cycles():
    files = {_module(path): path for package in ("devprof", "strategies", "datasets_meta") for path in sources(package)}
    edges = {name: {entry for entry in imports(path, top_only=True) if entry in files} for name, path in files.items()}
    done, active = set(), []

    def visit(name):
        assert name not in active, " -> ".join([*active[active.index(name) :], name])
        if name in done:
            return
        active.append(name)
        for target in edges[name]:
            visit(target)
        active.pop()
        done.add(name)

    for name in files:
        visit(name)


def _module(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _functions(tree):
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


@pytest.mark.parametrize(
    "path", [path for package in ("devprof", "strategies", "datasets_meta") for path in sources(package)], ids=str
)
def test_modules_and_functions_stay_small_and_say_what_they_offer(path):
    text = path.read_text()
    assert text.count("\n") <= 420, f"{path} has {text.count(chr(10))} lines"
    for node in _functions(ast.parse(text)):
        # A click command's options are its signature, not its work.
        work = node.end_lineno - (node.body[0].lineno if node.name == "command" else node.lineno) + 1
        assert work <= 62, f"{path}:{node.lineno} {node.name} has {work} lines"
