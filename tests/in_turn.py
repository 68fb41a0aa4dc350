"""Several commands in one process that a test starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import sample

RUN_IN_TURN = """
import contextlib, io, json, runpy, sys
sys.path.insert(0, sys.argv[1])
ended = {}
for name, (script, *arguments) in json.loads(sys.argv[2]).items():
    sys.argv, code = [script, *arguments], 0
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            runpy.run_path(f"{sys.path[0]}/{script}", run_name="__main__")
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):  # Python prints such a code, and ends with 1
                code = print(code, file=sys.stderr) or 1
    ended[name] = code, output.getvalue(), errors.getvalue()
print(json.dumps(ended))
"""


class Ended(NamedTuple):
    """Exit code of a command, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_in_turn(commands, **environment):
    """Runs commands of experiments/, each a list of strings, one after the other in one process, for `Ended` by name.

    Each of them alone would mostly import.
    """
    arguments = [sys.executable, "-c", RUN_IN_TURN, str(Path(sample.__file__).parent), json.dumps(commands)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=os.environ | environment)
    return {name: Ended(*how) for name, how in json.loads(done.stdout).items()}
