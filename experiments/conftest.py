"""Shares the setup of tests/conftest.py (devices, JAX's checks, fixtures) with the tests of the studies."""

import runpy
from pathlib import Path

shared = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "conftest.py"))
globals().update({name: value for name, value in shared.items() if not name.startswith("__")})
