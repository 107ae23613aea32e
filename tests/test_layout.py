"""Where things stand: links, packages, the wheel, sizes and contracts."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from tests.versions import imported

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHELVES = ("attacks", "configs", "defenses")
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def sources() -> list[Path]:
    """Every Python file of the project, each under one name."""
    folders = ("attacks", "configs", "defenses", "privbench", "tests")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    linked = tuple(ROOT / "privbench" / shelf for shelf in SHELVES)
    return [path for path in found if not any(path.is_relative_to(link) for link in linked)]


@pytest.mark.parametrize("shelf", SHELVES)
def test_the_links_point_to_the_shelves(shelf):
    link = ROOT / "privbench" / shelf
    assert link.is_symlink()
    assert link.readlink() == Path("..") / shelf
    assert link.samefile(ROOT / shelf)


@pytest.mark.parametrize("shelf", SHELVES)
def test_the_packages_resolve_to_the_shelves(shelf):
    places = [Path(place) for place in import_module(f"privbench.{shelf}").__path__]
    assert places
    assert all(place.samefile(ROOT / shelf) for place in places)


def test_a_build_takes_the_shelves_from_where_they_stand():
    expected = {"privbench": "privbench"} | {f"privbench.{shelf}": shelf for shelf in SHELVES}
    assert SETUPTOOLS["package-dir"] == expected


def test_no_file_is_longer_than_a_reader_can_hold():
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := lines(p)) > 350}
    assert not long


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def components() -> list[Path]:
    shelves = ("attacks", "defenses", "privbench/datasets", "privbench/metrics")
    return [p for shelf in shelves for p in (ROOT / shelf).glob("*.py") if p.name[0] != "_"]


@pytest.mark.parametrize("path", components(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_component_says_in_one_line_what_it_is(path):
    module = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in module.body if isinstance(node, ast.ClassDef) and node.bases]
    for node in (module, *classes):
        first = (ast.get_docstring(node) or "").partition("\n")[0]
        assert 0 < len(first) <= 100
        assert first.endswith((".", ":"))


def harness() -> set[str]:
    """Packages of the harness: all below privbench that are no shelf, no data, no library."""
    shelves = {"attacks", "configs", "datasets", "defenses", "evals", "metrics"}
    packages = {path.parent.name for path in (ROOT / "privbench").glob("*/__init__.py")}
    return packages - shelves - {"assets", "corruptions"}


def imports(path: Path) -> set[str]:
    """Modules of privbench that a file imports, wherever in it."""
    return imported(ast.parse(path.read_text(encoding="utf-8")))


def test_the_root_is_what_a_component_may_import():
    """The extension API leans on nothing but itself; api.py is for programs, not components."""
    roots = [p for p in (ROOT / "privbench").glob("*.py") if p.stem not in ("api", "__main__")]
    known = {path.stem for path in roots}
    for path in roots:
        names = {name.split(".")[1] for name in imports(path)}
        assert names <= known | ({"api"} if path.stem == "__init__" else set()), path


@pytest.mark.parametrize("shelf", ["datasets", "evals", "metrics"])
def test_components_share_only_files_that_are_none(shelf):
    """What two of a shelf need stands in a file with an underscore, so each can be taken out."""
    for path in (ROOT / "privbench" / shelf).glob("*.py"):
        theirs = [n.split(".") for n in imports(path) if n.startswith(f"privbench.{shelf}.")]
        assert all(parts[2][0] == "_" for parts in theirs), path


def test_every_wall_covers_every_package_of_the_harness():
    expected = {f"privbench.{name}" for name in harness()}
    assert len(expected) >= 8
    for one in PROJECT["tool"]["importlinter"]["contracts"]:
        if one["name"].split()[0] in ("A", "An"):
            assert expected <= set(one["forbidden_modules"]), one["name"]
        if one["name"] == "The harness names no component":
            assert expected <= set(one["source_modules"])


def test_every_contract_names_modules_that_exist():
    for one in PROJECT["tool"]["importlinter"]["contracts"]:
        for name in (*one["source_modules"], *one["forbidden_modules"]):
            if name.startswith("privbench."):
                place = ROOT / name.replace(".", "/")
                assert place.is_dir() or place.with_suffix(".py").is_file(), name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in a wheel that was built from a copy of the working tree."""
    copy, out = tmp_path_factory.mktemp("wheel") / "copy", tmp_path_factory.mktemp("out")
    rubbish = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("privbench", *SHELVES):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=rubbish)
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--disable-pip-version-check", "--no-index", "-w", out, copy],
        check=True,
        capture_output=True,
    )
    [built] = out.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_every_module_preset_and_asset(wheel):
    wanted = set()
    for folder in ("privbench", *SHELVES):
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and path.suffix != ".pyc":
                wanted.add("/".join(parts if parts[0] == "privbench" else ("privbench", *parts)))
    assert "privbench/attacks/pe_ls.py" in wanted
    assert wanted <= wheel
    extra = {name for name in wheel - wanted if ".dist-info/" not in name}
    assert not extra


def test_a_wheel_carries_the_license_and_the_command(wheel):
    endings = ("licenses/LICENSE", "licenses/NOTICE", "entry_points.txt")
    assert all(any(name.endswith(ending) for name in wheel) for ending in endings)
