"""Imports point one way: bindings -> affectcore -> kernels; and public names are what __all__ says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import affectcore

ROOT = Path(affectcore.__file__).parents[1]
LAYERS = {"kernels": 0, "affectcore": 1, "bindings": 2}


def layer_of(module: str) -> int | None:
    parts = module.split(".")
    if parts[0] != "affectcore":
        return None
    return LAYERS[parts[1]] if len(parts) > 1 and parts[1] in LAYERS else LAYERS["affectcore"]


def imports(path: Path, package: str) -> list[str]:
    """Name every module that a file imports, at its top or inside a function."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{name}.{alias.name}" for alias in node.names] if name == "affectcore" else [name]
    return found


def sources() -> list[tuple[Path, str, int]]:
    out = []
    for folder, layer in LAYERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {"kernels", "bindings"} & set(path.relative_to(ROOT / folder).parts):
                prefix = [] if folder == "affectcore" else ["affectcore"]
                out.append((path, ".".join([*prefix, *path.relative_to(ROOT).parts[:-1]]), layer))
    return out


def test_imports_point_downwards() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, package, layer in sources()
        for name in imports(path, package)
        if (target := layer_of(name)) is not None and target > layer
    ]
    assert len(sources()) > 20
    assert wrong == []


def test_the_engine_does_not_know_the_command_line() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, package, _ in sources()
        if "cli" not in path.parts and path.name != "__main__.py"
        for name in imports(path, package)
        if name.startswith("affectcore.cli")
    ]
    assert wrong == []


def test_kernels_know_neither_arrow_nor_files() -> None:
    banned = {"pyarrow", "json", "pathlib", "os.path", "rich", "typer"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, package, layer in sources()
        if layer == LAYERS["kernels"] and path.name != "cache.py"  # which knows the files of compiled kernels
        for name in imports(path, package)
        if name.split(".")[0] in banned
    ]
    assert wrong == []


def test_pandas_is_never_needed() -> None:
    # PyArrow's to_pandas... import it; the core does not bring it.
    wrong = [
        f"{path.relative_to(ROOT)}: {node.attr}"
        for path, _, _ in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith("to_pandas")
    ]
    assert wrong == []


def test_top_level_folders_are_no_packages() -> None:
    # Hugging Face publishes a package named kernels: ours must not be importable under that name.
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "bindings" / "__init__.py").exists()


def test_public_names_exist_and_are_all() -> None:
    for name in affectcore.__all__:
        assert getattr(affectcore, name) is not None
    assert set(affectcore.__all__) <= set(dir(affectcore))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = affectcore.nothing


def test_every_module_imports() -> None:
    names = {f"{package}.{path.stem}".removesuffix(".__init__") for path, package, _ in sources()}
    assert {"affectcore.scorer", "affectcore.cli.main", "affectcore.kernels.words.gpu"} <= names
    for name in sorted(names - {"affectcore.__main__"}):
        importlib.import_module(name)


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_light() -> None:
    assert not {"numpy", "pyarrow", "numba", "torch", "rich", "typer"} & modules_after("import affectcore")


def test_scoring_never_imports_torch() -> None:
    loaded = modules_after("import affectcore as ac; ac.Scorer().score(['fine'])")
    assert "numba" in loaded
    assert not {"torch", "triton", "tokenizers"} & loaded


@pytest.mark.parametrize("command", ["import affectcore", "from affectcore.cli.main import main; main(['--help'])"])
def test_starts_in_half_a_second(command: str) -> None:
    code = (
        f"import time; t = time.perf_counter()\n{command}\nimport sys; print(time.perf_counter() - t, file=sys.stderr)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stderr.split()[-1]) for run in runs) < 0.5


def test_all_that_commands_print_goes_through_the_consoles() -> None:
    """What `affectcore.cli.console` prints cannot steer the terminal; nothing prints past it."""
    allowed = {
        "affectcore/cli/console.py": {"typer.echo"},
        "affectcore/cli/main.py": {"sys.stderr.write"},  # escaped there; a progress line redirects what is written so
        "affectcore/report/table.py": {"Console"},  # plain text for str()
        "affectcore/exams/__init__.py": {"Console"},
        # Made by hand, from data of this repository.
        **{f"affectcore/training/{name}.py": {"print"} for name in (
            "distil", "finetune", "finetune_tone", "report", "validate")},
    }  # fmt: skip
    printing = {"print", "typer.echo", "typer.secho", "click.echo", "Console", "sys.stdout.write", "sys.stderr.write"}
    wrong = []
    for path, _, layer in sources():
        name = path.relative_to(ROOT).as_posix()
        if layer == LAYERS["affectcore"]:
            called = {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)}
            wrong += [f"{name} calls {call}" for call in sorted(called & printing - allowed.get(name, set()))]
    assert wrong == []


def test_the_floor_imports_nothing_of_the_package() -> None:
    assert not [name for name in imports(ROOT / "affectcore" / "escape.py", "affectcore") if "affectcore" in name]
