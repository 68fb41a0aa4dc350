"""Runs a command by its name, the same as the script of that name in experiments/.

$ genjax train-vae digits --workdir runs/digits
$ genjax COMMAND --help
"""

import ast
import importlib.metadata
import sys
import types
from pathlib import Path

FOLDER = Path(__file__).parent
COMMANDS = {path.stem.replace("_", "-"): path for path in sorted(FOLDER.glob("[a-z]*.py")) if path.stem != "conftest"}


def main() -> None:
    """Runs the command that the first argument names, with the others; without a name, lists all."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: genjax COMMAND [...]\n\n{listed()}\n\ngenjax COMMAND --help explains a command.")
    elif name == "--version":
        print(importlib.metadata.version("genjax-images"))
    elif name in COMMANDS:
        sys.argv = [f"genjax {name}", *arguments]
        run(COMMANDS[name])
    else:
        print(f"error: no command is called {name!r}: give one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def run(script: Path) -> None:
    """Runs a script as Python does, with its folder on the path; runpy would change the name that help shows."""
    sys.path.insert(0, str(script.parent))
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module
    exec(compile(script.read_bytes(), script, "exec"), vars(module))


def listed() -> str:
    """Returns a line for each command: its name and the first line of its docstring."""
    width = max(map(len, COMMANDS))
    parsed = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in COMMANDS.items()}
    docstrings = {name: ast.get_docstring(tree) or "" for name, tree in parsed.items()}
    return "\n".join(f"  {name:{width}}  {text.partition(chr(10))[0]}" for name, text in docstrings.items())


if __name__ == "__main__":
    main()
