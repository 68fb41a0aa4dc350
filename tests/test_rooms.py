"""The map of genjax/README.md: a file imports only from its own line and from the lines below it."""

import ast
import re
from pathlib import Path

import genjax

LIBRARY = Path(genjax.__file__).parent


def lines_of_the_map():
    """The modules and folders of each line of the map, from the top."""
    page = (LIBRARY / "README.md").read_text()
    lines = re.findall(r"^    ([a-z_/]+(?:,? +[a-z_/]+)*?)(?:  +.*)?$", page.split("## One batch")[0], re.MULTILINE)
    return [set(re.findall(r"[a-z_]+", line)) for line in lines][1:]  # the first one is experiments/


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "genjax":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("genjax."):
            yield node.module.split(".")[1]


def test_imports_lead_down_the_map():
    rank = {room: i for i, rooms in enumerate(lines_of_the_map()) for room in rooms}
    files = [path for path in LIBRARY.rglob("*.py") if path != LIBRARY / "__init__.py"]
    rooms = {path: path.relative_to(LIBRARY).parts[0].removesuffix(".py") for path in files}
    assert set(rooms.values()) == set(rank)
    upwards = {
        f"{path.relative_to(LIBRARY)} -> {other}"
        for path, room in rooms.items()
        for other in imported_rooms(path)
        if rank[other] < rank[room]
        or (rank[other] == rank[room] and other != room and {other, room} <= {"vae", "cyclegan", "cut", "unit"})
    }
    assert not upwards


def test_library_imports_nothing_that_windows_lacks():
    missing = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}
    nodes = [node for path in LIBRARY.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert len(imported) > 50 and not imported & missing


def test_pages_of_results_hold_no_log_lines():
    """As a table that is copied from a terminal may."""
    pages = list((LIBRARY.parent / "experiments" / "results").glob("*.md"))
    found = [line for page in pages for line in page.read_text().splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(pages) > 10 and not found


def test_readme_has_the_commands_that_ci_runs():
    root = LIBRARY.parent
    asked = re.findall(r"readme_command '?([^')]+)", (root / ".ci" / "run").read_text())
    lines = (root / "README.md").read_text().splitlines()
    assert len(asked) == 2 and len(lines) <= 150
    for part in asked:
        assert any(line.startswith("    ") and part in line for line in lines), part
