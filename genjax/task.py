"""Interface between a family of models and the code that trains and evaluates it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from jax import Array
from jax.sharding import Mesh

from genjax.config import RunConfig
from genjax.data.splits import Splits
from genjax.parallel import PyTree

Split = Literal["validation", "test"]  # name of the images that an evaluation uses

# A row of metrics.jsonl: `step`, then metrics by name; names of evaluations begin with "validation/".
Row = Mapping[str, Any]

RECENT_ROWS = 10  # number of the latest training rows that a monitor receives

# (latest RECENT_ROWS training rows, latest evaluation row or {}) -> warnings, a name and a sentence with a remedy.
Monitor = Callable[[Sequence[Row], Row], dict[str, str]]


class State(Protocol):
    """NamedTuple of the arrays that a training carries from step to step; it holds no keys."""

    @property
    def step(self) -> Array: ...
    @property
    def skipped(self) -> Array: ...
    @property
    def ema(self) -> PyTree: ...
    def _asdict(self) -> dict[str, PyTree]: ...
    def _replace(self, *args: Any, **fields: Any) -> Any: ...


C = TypeVar("C", bound=RunConfig)
S = TypeVar("S", bound=State)

Evaluate = Callable[[S, Splits, Split], dict[str, float]]
"""(state, images, split) -> metrics by name. It gets no seed: all runs are to be scored with the same noise."""

# (config, mesh) -> a function that evaluates states. Compile here, so that it happens once for a training.
Evaluator = Callable[[C, Mesh], Evaluate[S]]


class Generated(NamedTuple):
    """Pictures that a model generated, [n, h, w, c] in [0, 1], and what they are compared with."""

    pictures: np.ndarray
    domain: int  # of the pictures: real ones of this domain are what they should resemble
    inputs: np.ndarray | None = None  # what they were translated from
    truth: np.ndarray | None = None  # what picture i should be, where images are paired


Generate = Callable[[S, Splits, Split, int, int], dict[str, Generated]]
"""(state, images, split, number, seed) -> sets of at most `number` pictures by name, such as samples or a2b."""


Parts = dict[str, PyTree]
"""Parameters of networks by their names, such as a2b, that a training may begin with."""


class Starts(NamedTuple, Generic[C, S]):
    """Functions by which a family's training begins from other weights, see train/starts.py."""

    # state -> the parts that another training may begin with, averaged ones where there is an average
    parts: Callable[[S], Parts]
    # (state before the first step, some of the parts) -> the state that begins with them
    begin: Callable[[S, Parts], S]
    # (config, names of the parts that there are) -> those to take; ValueError if one is lacking
    choose: Callable[[C, tuple[str, ...]], tuple[str, ...]]
    settings: tuple[str, ...]  # dotted fields of the configuration that networks depend on
    # dotted fields, by part, that have to be alike: they change what a network does, and not its parameters' shapes
    alike: Mapping[str, tuple[str, ...]]
    # (paths, names of state dicts) -> parts and settings that PyTorch's files hold
    read_torch: Callable[[tuple[str, ...], tuple[str, ...]], tuple[Parts, Mapping[str, Any]]] | None = None


class Task(NamedTuple, Generic[C, S]):
    """A family of models as pure functions; those that take a batch are written per device, see `parallel`."""

    name: str  # name of the family, as in config.json and on the command line
    config_class: type[C]
    title: str  # the name in words
    # names of the metrics that a line of progress shows, in this order: the first three of them that a row has
    headline: tuple[str, ...]
    units: str  # units of its metrics, as reports show them
    init: Callable[[C, Array], S]  # (config, key) -> the state before the first step
    # (config, state, batch, key) -> (state, scalar metrics, `skipped` among them); it also takes `constants` where
    # load_constants finds some
    train_step: Callable[..., tuple[S, dict[str, Array]]]
    evaluators: tuple[Evaluator[C, S], ...]  # metrics over whole sets of images; each metric name occurs once
    # (config, state, batch, key) -> pictures [b, h, w, c], about [0, 1], by name
    visualize: Callable[..., dict[str, Array]]
    # validation losses that may select the best checkpoint, by their name in --train.best-by: the metrics whose mean
    # they are. The first one is the default; with two domains it needs pairs.
    scores: Mapping[str, tuple[str, ...]]
    # (config, mesh) -> a function that generates pictures. Compile here, as for an evaluator.
    generate: Callable[[C, Mesh], Generate[S]]
    # (config, images) -> a monitor of the rows that a training writes; it may log at once what can be foretold
    monitor: Callable[[C, Splits], Monitor] | None = None
    # config -> (config with the SHA-256 of the files it names, arrays that training reads and never changes)
    load_constants: Callable[[C], tuple[C, PyTree]] | None = None
    starts: Starts[C, S] | None = None  # None: every training begins from its seed
