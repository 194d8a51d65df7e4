"""Contents of wheel and source distribution. The wheel works without the rest of the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SMOKE_TEST = Path(__file__).with_name("smoke_test.sh")
NOT_IN_SDIST = (".ci/", ".github/", ".gitignore")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git lists the files of the repository"),
]


def assert_succeeds(*command, **kwargs):
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False, **kwargs)
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def repository_files():
    """Files of the working tree that git tracks or would add."""
    listed = assert_succeeds("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def clean_copy(tmp_path_factory, repository_files):
    """A copy of the repository without ignored files."""
    folder = tmp_path_factory.mktemp("repository")
    for name in repository_files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def build(kind, source, output):
    assert_succeeds(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", output, source)
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(clean_copy, tmp_path_factory):
    return build("wheel", clean_copy, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(clean_copy, tmp_path_factory):
    return build("sdist", clean_copy, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked_sdist(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def fresh_python(wheel, tmp_path_factory):
    """Python of a new environment with the wheel. It finds the dependencies where this interpreter does."""
    folder = tmp_path_factory.mktemp("environment")
    assert_succeeds(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    assert_succeeds(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    # Paths of a .pth file come last, and .pth files in them are not read, so no editable install is found.
    site_packages = Path(
        assert_succeeds(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


@pytest.fixture
def environment(fresh_python):
    """Environment variables that activate the fresh environment."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return variables | {"PATH": os.pathsep.join([str(fresh_python.parent), os.environ["PATH"]])}


def wheel_files(path):
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_package_and_nothing_else(wheel, repository_files):
    package = {name for name in repository_files if name.startswith("tspo_trl/")}
    assert "tspo_trl/py.typed" in package
    assert {name for name in wheel_files(wheel) if ".dist-info/" not in name} == package


def test_wheel_has_license_and_console_script(wheel):
    metadata = {name.split("/", 1)[1]: name for name in wheel_files(wheel) if ".dist-info/" in name}
    assert set(metadata) == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"
    }  # fmt: skip
    with zipfile.ZipFile(wheel) as archive:
        assert "tspo-trl = tspo_trl.cli.main:main" in archive.read(metadata["entry_points.txt"]).decode()
        assert archive.read(metadata["top_level.txt"]).decode() == "tspo_trl\n"


def test_sdist_holds_the_repository_without_what_runs_on_github(unpacked_sdist, repository_files):
    held = {str(path.relative_to(unpacked_sdist)) for path in unpacked_sdist.rglob("*") if path.is_file()}
    generated = {name for name in held if name.startswith("tspo_trl.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    expected = {name for name in repository_files if not name.startswith(NOT_IN_SDIST)}
    assert held - generated == expected


def test_wheel_of_the_sdist_is_the_same(unpacked_sdist, wheel, tmp_path):
    assert wheel_files(build("wheel", unpacked_sdist, tmp_path)) == wheel_files(wheel)


def test_package_index_takes_both(wheel, sdist):
    assert_succeeds(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)


def test_wheel_works_in_a_fresh_environment(fresh_python, environment, tmp_path):
    output = assert_succeeds("bash", SMOKE_TEST, cwd=tmp_path, env=environment | {"TMPDIR": str(tmp_path)})
    assert str(fresh_python.parent.parent / "lib") in output  # the package is the wheel's, not this repository's
    assert output.endswith("it works\n")


def test_users_are_told_about_wrong_types(fresh_python, environment, tmp_path):
    code = "from tspo_trl.answers import exact_match\n\nscore: str = exact_match('Paris', ['Paris'])\n"
    (tmp_path / "user.py").write_text(code, encoding="utf-8")
    # Following the imports of torch and others would take minutes.
    settings = "[mypy]\nfollow_imports = skip\n[mypy-tspo_trl.*]\nfollow_imports = normal\n"
    (tmp_path / "mypy.ini").write_text(settings, encoding="utf-8")
    command = [fresh_python, "-m", "mypy", "--cache-dir", tmp_path / "cache", "user.py"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert 'user.py:3: error: Incompatible types in assignment (expression has type "float"' in result.stdout
