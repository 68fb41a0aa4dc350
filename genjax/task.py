"""The interface between a family of models and everything that runs it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from jax import Array
from jax.sharding import Mesh

from genjax.config import RunConfig
from genjax.data.splits import Splits
from genjax.parallel import PyTree

Split = Literal["validation", "test"]
"""The images that an evaluation is about."""

Row = Mapping[str, Any]
"""A row of metrics.jsonl: `step`, then metrics by name; those of an evaluation begin with "validation/"."""

RECENT_ROWS = 10
"""Rows of training metrics that a monitor is shown."""

Monitor = Callable[[Sequence[Row], Row], dict[str, str]]
"""(the latest RECENT_ROWS rows of training metrics, the latest row of an evaluation or {}) -> warnings.

A warning is a name and a sentence that says what to do.
"""


class State(Protocol):
    """A NamedTuple of arrays: all that a training carries from step to step, nothing random."""

    @property
    def step(self) -> Array: ...
    @property
    def skipped(self) -> Array: ...
    def _asdict(self) -> dict[str, PyTree]: ...


C = TypeVar("C", bound=RunConfig)
S = TypeVar("S", bound=State)

Evaluate = Callable[[S, Splits, Split, int], dict[str, float]]
"""(state, images, which of them, seed of the noise) -> metrics by name."""

Evaluator = Callable[[C, Mesh], Evaluate[S]]
"""(config, mesh) -> a function that evaluates states; what it compiles is compiled here, once for a training."""


class Task(NamedTuple, Generic[C, S]):
    """A family of models: pure functions, those with a batch per device (they use `lax.pmean(..., "data")`)."""

    name: str
    """Name of the family, as in config.json and on the command line."""
    config_class: type[C]
    units: str
    """Units of its metrics, for people."""
    init: Callable[[C, Array], S]
    """(config, key) -> the state before the first step"""
    train_step: Callable[..., tuple[S, dict[str, Array]]]
    """(config, state, batch, key) -> (state, scalar metrics), `skipped` among them; with load_constants also
    `constants`"""
    evaluators: tuple[Evaluator[C, S], ...]
    """Metrics over whole sets of images; no two give a metric of the same name."""
    visualize: Callable[..., dict[str, Array]]
    """(config, state, batch, key) -> pictures [b, h, w, c], about [0, 1], by name"""
    score: Callable[[dict[str, float]], float | None]
    """validation metrics -> validation loss that selects the best checkpoint, lower is better; None for none"""
    monitor: Callable[[C, Splits], Monitor] | None = None
    """(config, images) -> a monitor of the rows that a training writes"""
    load_constants: Callable[[C], tuple[C, PyTree]] | None = None
    """config -> (config with the SHA-256 of the files that it names, arrays that training uses and never changes)"""
