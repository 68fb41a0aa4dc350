"""Gives the tests beside the studies what tests/conftest.py sets up: devices, JAX's checks, and fixtures."""

import runpy
from pathlib import Path

shared = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "conftest.py"))
globals().update({name: value for name, value in shared.items() if not name.startswith("__")})
