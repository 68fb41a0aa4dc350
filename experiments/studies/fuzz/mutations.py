"""Random damage to the bytes of a file, and hostile names."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

HEADER = 64
"""Bytes at the start of a file in which absurd sizes do most harm."""

ABSURD = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)

# Values that a field of a JSON file may be given.
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    float("nan"),
    "",
    "\x1b[31m\x00",
    "../../etc/passwd",
    [],
    {},
    [[]] * 50,
)

NAMES = ("plain", "with space", "ümlaut", "new\nline", "esc\x1b[31m", "tab\t", "quote'\"", "-dash", "%s{}", "x" * 200)


def flip(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Changes one to twenty bytes."""
    changed = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 21)):
        changed[place] = rng.integers(256)
    return bytes(changed)


def truncate(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Cuts off the end."""
    return content[: rng.integers(0, len(content))]


def swap_header(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Puts the beginning of another file in place of the file's own."""
    length = int(rng.integers(4, HEADER))
    return others[int(rng.integers(len(others)))][:length] + content[length:]


def absurd_size(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Writes a very large or small number of 2 or 4 bytes, of either order, near the start."""
    size, order = int(rng.choice([2, 4])), str(rng.choice(["little", "big"]))
    place = int(rng.integers(0, min(4 * HEADER, len(content))))
    number = (ABSURD[rng.integers(len(ABSURD))] % 256**size).to_bytes(size, order)  # type: ignore[arg-type]
    return content[:place] + number + content[place + size :]


def repeat(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Repeats a part of the file."""
    start, end = sorted(rng.integers(0, len(content), 2))
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def zero(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Sets a part of the file to 0, as a crash of the machine may."""
    start, end = sorted(rng.integers(0, len(content) + 1, 2))
    return content[:start] + bytes(end - start) + content[end:]


def json_value(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Changes or removes one value of a JSON file, or of a line of several."""
    lines = content.decode().splitlines()
    start = int(rng.integers(len(lines))) if _is_json(lines[0]) else 0
    end = start + 1 if _is_json(lines[0]) else len(lines)
    document = json.loads("\n".join(lines[start:end]))
    holder = document
    while True:  # walks down to a random place
        keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return b"[" * 2000  # nested deeper than Python's own limit
        key = keys[rng.integers(len(keys))]
        if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
            holder = holder[key]
            continue
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = VALUES[rng.integers(len(VALUES))]
        return "\n".join([*lines[:start], json.dumps(document), *lines[end:]]).encode()


BYTES = (flip, truncate, swap_header, absurd_size, repeat, zero)


def mutate(rng: np.random.Generator, content: bytes, others: Sequence[bytes]) -> bytes:
    """Damages a file once or twice; `others` are the contents of files of the same kind."""
    kinds: tuple[Callable, ...] = BYTES
    if content and re.match(rb"\s*[{\[]", content):
        kinds = (*BYTES, *[json_value] * len(BYTES))
    first = kinds[rng.integers(len(kinds))](rng, content or b"\0", others)
    return BYTES[rng.integers(len(BYTES))](rng, first or b"\0", others) if rng.random() < 0.2 else first


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
