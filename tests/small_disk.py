"""A small disk that can be full."""

from pathlib import Path


class Disk:
    """A small disk of its own, in memory."""

    def __init__(self, path: Path):
        self.path, self.filler = path, path / "filler"

    def fill(self) -> None:
        """Leaves no room at all."""
        with open(self.filler, "wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    pass
