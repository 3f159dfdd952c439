"""The house's boundaries: who imports whom, and what importing the package must not load."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

import xai_traffic as xt

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "xai_traffic"
ORDER = (
    "errors", "terminal", "whole", "huge_pages", "capture", "lab", "data", "ops", "models",
    "parallel", "explain", "training", "evaluation", "report", "demo", "cli",
)  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))
FRAMEWORKS = ("tensorflow", "torch", "keras")


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: pathlib.Path) -> set[str]:
    """Return every module that a source file imports anywhere, as full dotted names."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def area(name: str) -> str:
    """Return the part of the package that a module of it belongs to; "" for the package."""
    return (name.split(".") + [""])[1]


def top(name: str) -> str:
    return name.split(".")[0]


def test_every_area_has_its_place():
    areas = {area(module_name(path)) for path in MODULES}
    assert areas <= {"", "__main__", *ORDER}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_one_way(path):
    name = module_name(path)
    own = area(name)
    for imported in imports(path):
        if top(imported) != "xai_traffic":
            continue
        other = area(imported)
        if other not in ORDER:  # a name of the package itself, such as __version__
            lazy = f"{name} takes {other} from the package: import the module that has it"
            assert other.startswith("__") or not other or own in ("cli", "demo"), lazy
        elif own in ORDER:
            assert ORDER.index(other) <= ORDER.index(own), f"{name} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_libraries_stay_where_they_belong(path):
    name = module_name(path)
    tops = {top(imported) for imported in imports(path)}
    assert not tops & set(FRAMEWORKS), name
    assert not tops & {"clu"} and "flax.metrics.tensorboard" not in imports(path), name
    if "flax" in tops:
        assert area(name) == "models", f"only models/ may import flax: {name}"
    if "orbax" in tops:
        assert name == "xai_traffic.training.checkpoint", name
    if area(name) in ("capture", "errors", "whole", "huge_pages", "terminal", ""):
        assert not tops & {"jax", "jaxlib", "flax", "optax", "orbax"}, name


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that are loaded after running the code in a new process."""
    code += "\nimport json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import xai_traffic; xai_traffic.__version__; dir(xai_traffic)")
    assert not loaded & {"jax", "jaxlib", "numpy", "pyarrow", "flax", "matplotlib", "sklearn"}


def test_reading_captures_needs_no_jax():
    names = [module_name(path) for path in MODULES if area(module_name(path)) == "capture"]
    loaded = loaded_by("import xai_traffic; xai_traffic.read_capture\nimport " + ", ".join(names))
    assert not loaded & {"jax", "jaxlib", "flax", *FRAMEWORKS}


def test_importing_everything_loads_no_other_framework_and_starts_no_device():
    names = [module_name(path) for path in MODULES if path.stem != "__main__"]
    code = "import " + ", ".join(names) + "\nimport jax._src.xla_bridge as bridge"
    code += "\nassert not bridge.backends_are_initialized(), 'device work at import'"
    assert not loaded_by(code) & {*FRAMEWORKS, "clu"}


def test_public_names():
    assert set(xt.__all__) <= set(dir(xt))
    assert callable(xt.read_capture) and callable(xt.open_dataset) and callable(xt.load_run)
    assert callable(xt.explain.integrated_gradients)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = xt.nonsense


def test_no_file_outgrows_its_concept():
    long = {module_name(path): len(path.read_text().splitlines()) for path in MODULES}
    assert not {name: lines for name, lines in long.items() if lines > 400}


def test_library_code_neither_prints_nor_asserts():
    commands = (PACKAGE / "cli").glob("*.py")  # what they find goes to standard output
    found = []
    for path in set(MODULES) - set(commands):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if isinstance(node, ast.Assert) or called and node.func.id == "print":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found
