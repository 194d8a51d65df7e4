"""Runs the Python blocks of a page, one after the other, in one process: `python python_blocks.py`.

A line of JSON `{"code", "name"}` comes in for each block, and a line of JSON goes out when it has run: `null`, or its
traceback. A block of `>>>` lines is run as a doctest. What blocks print goes to standard error.
"""

import doctest
import io
import json
import linecache
import sys
import traceback


def run(code, name, names):
    """Run a block, and return what went wrong, if anything did."""
    try:
        if code.lstrip().startswith(">>>"):
            return run_doctest(code, name, names)
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        exec(compile(code, name, "exec"), names)
    except BaseException:
        return traceback.format_exc()


def run_doctest(code, name, names):
    """Run a block of `>>>` lines. What it assigns stays for the blocks behind it."""
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
