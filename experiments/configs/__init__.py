"""Named configurations: the file of each family holds them in CONFIGS."""

import importlib
from collections.abc import Callable, Mapping

from genjax.config import RunConfig
from genjax.families import FAMILIES

CONFIGS: dict[str, Mapping[str, Callable[[], RunConfig]]] = {
    family: importlib.import_module(f"{__name__}.{family}").CONFIGS for family in FAMILIES
}


def split_name(name: str) -> tuple[str, str]:
    """Splits FAMILY:CONFIG, as "vae:digits", into its parts; ValueError if there is no such configuration."""
    family, _, config = name.partition(":")
    if family not in CONFIGS:
        choices = " or ".join(f"{known}:CONFIG" for known in CONFIGS)
        raise ValueError(f"{name} names no family of models: give {choices}")
    if config not in CONFIGS[family]:
        choices = ", ".join(CONFIGS[family])
        raise ValueError(f"{name} names no configuration: give {family}: followed by one of {choices}")
    return family, config


def make(name: str) -> RunConfig:
    """Makes the configuration FAMILY:CONFIG; ValueError as from `split_name`."""
    family, config = split_name(name)
    return CONFIGS[family][config]()
