"""Runs a benchmark and prints its results as the last line, one flat JSON object.

$ python experiments/benchmark.py scaling paper
$ python experiments/benchmark.py NAME --help
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

# Nothing of genjax is imported here, because each benchmark decides when JAX starts and with which devices. Its worker
# processes import this file too, and some of them measure PyTorch's memory.
BENCHMARKS = sorted(path.stem for path in Path(__file__).parent.glob("benchmarks/[a-z]*.py"))


def main() -> None:
    """Runs `main` of benchmarks/NAME.py with the flags that follow the name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    name = parser.parse_args(sys.argv[1:2]).name
    sys.argv = [f"benchmark.py {name}", *sys.argv[2:]]
    print(json.dumps(importlib.import_module(f"benchmarks.{name}").main()))


if __name__ == "__main__":
    main()
