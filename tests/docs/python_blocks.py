"""Runs the Python blocks of a page in one process: `python python_blocks.py`.

It reads a line of JSON `{"code", "name"}` per block. After each block it prints a line of JSON: `null`, or the
traceback. A block of `>>>` lines runs as a doctest. The output of blocks goes to standard error.
"""

import doctest
import io
import json
import linecache
import sys
import traceback


def run(code, name, names):
    """Run a block and return its traceback, or `None` if it succeeds."""
    try:
        if code.lstrip().startswith(">>>"):
            return run_doctest(code, name, names)
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        exec(compile(code, name, "exec"), names)
    except BaseException:
        return traceback.format_exc()


def run_doctest(code, name, names):
    """Run a block of `>>>` lines. Later blocks see its names."""
    test = doctest.DocTestParser().get_doctest(code, names, name, name, 0)
    report = io.StringIO()
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.write, clear_globs=False)
    names |= test.globs
    return report.getvalue() or None


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr
    names = {"__name__": "__main__"}
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line), names=names)), file=answers, flush=True)
