"""Checks that configurations share. Each raises ValueError with the field, the value and the remedy."""

import dataclasses
import math
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def flag(part: str, name: str) -> str:
    """Returns the flag of a field: `flag("data", "batch_size")` is --data.batch-size."""
    return f"--{part}{'.' if part else ''}{name.replace('_', '-')}"


def check_finite(config: "DataclassInstance", part: str) -> None:
    """Raises ValueError if a float field of `config` is NaN or infinite; `part` begins the flags of its fields."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        require(
            not isinstance(value, float) or math.isfinite(value),
            f"{flag(part, field.name)} must be finite, got {value}",
        )


def check_used(
    config: "DataclassInstance", part: str, names: Collection[str], choice: str, users: Collection[str]
) -> None:
    """Raises ValueError if a field of `names` is set but has no effect, as `choice` is none of its `users`.

    A field is set if it is not at its default. `part` begins the flags of these fields.
    """
    chosen = getattr(config, choice)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        require(
            field.name not in names or chosen in users or value == field.default,
            f"{flag(part, field.name)} {value} has no effect with {choice} {chosen}: give {flag(part, field.name)} "
            f"{field.default}, or {flag(part, choice)} {' or '.join(users)}",
        )


def check_seed(name: str, seed: int) -> None:
    """Raises ValueError unless 0 <= seed < 2**31: JAX refuses other seeds or maps two of them to one key."""
    require(isinstance(seed, int), f"{name} must be an int, got {type(seed).__name__}: give int({seed})")
    require(0 <= seed < 2**31, f"{name} must lie in [0, 2**31), got {seed}")
