"""Runs a study: trainings, or trials of the tests, that answer one question; tables are in experiments/results/.

$ python experiments/study.py translation icons --workdir runs/translation
$ python experiments/study.py NAME --help
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from genjax import cli, flag_help

STUDIES = sorted(path.parent.name for path in Path(__file__).parent.glob("studies/*/study.py"))


def main() -> dict[str, Any]:
    """Runs `main` of studies/NAME/study.py with the flags that follow the name."""
    parser = argparse.ArgumentParser(
        description=flag_help.description(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=STUDIES)
    name = parser.parse_args(sys.argv[1:2]).name
    sys.argv = [f"study.py {name}", *sys.argv[2:]]
    results: dict[str, Any] = importlib.import_module(f"studies.{name}.study").main()
    return results


if __name__ == "__main__":
    cli.run(main)
