"""The file config.json of a run: writing, reading, and what may change in it when the run is resumed."""

import dataclasses
from collections.abc import Collection
from typing import overload

import cattrs
from etils import epath

from genjax import files
from genjax.config import RunConfig
from genjax.data.config import Levels
from genjax.evaluation import best
from genjax.families import FAMILIES, family_of
from genjax.files import Json
from genjax.task import C
from genjax.train import weights_file

MAY_CHANGE = frozenset({
    "workdir", "classifier_a", "classifier_b", "keep_mask", "init_from", "data.cache", "data.cache_dir",
    "data.cache_gib", "data.decode_threads", "data.max_megapixels", "data.prefetch", "train.log_every",
    "train.eval_every", "train.checkpoint_every", "train.num_sample_images", "train.epochs", "train.keep_period",
    "train.max_nonfinite_steps", "train.track", "train.profile", "train.show_parameters",
})  # fmt: skip
"""Fields that do not change results, and so may differ when a run is resumed."""

FORMAT = "0.4"
"""First version of genjax with this format of run directories."""

NAME = "config.json"


def fields_of(config: RunConfig) -> Json:
    """Returns what config.json holds: a run's configuration without its directory, so that the run may be moved."""
    fields = dataclasses.asdict(config)
    del fields["workdir"]
    return {"genjax": FORMAT, "family": family_of(type(config)), **fields}


def write(workdir: epath.Path, config: RunConfig) -> None:
    """Writes the configuration of a run."""
    files.write_json(workdir / NAME, fields_of(config))


def read(workdir: epath.PathLike) -> Json:
    """Reads the configuration of the run in `workdir`, or of a file of weights: the family, and the fields.

    Raises ValueError or FileNotFoundError if there is no run, or one of another version of genjax.
    """
    if weights_file.is_named(workdir):
        path, record = files.resolve(workdir), weights_file.read(workdir).config
    else:
        path = files.resolve(workdir) / NAME
        if not path.exists():
            raise FileNotFoundError(f"{workdir} holds no run: there is no {path}")
        record = files.read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("family"), str):
        raise ValueError(f"{path} is not a configuration of this version of genjax: it names no family")
    if record["family"] not in FAMILIES:
        raise ValueError(f"{workdir} holds a {record['family']} run, and genjax has the families {', '.join(FAMILIES)}")
    made_by = record.pop("genjax", "0.1")
    if made_by != FORMAT:
        raise ValueError(
            f"{workdir} was made by genjax {made_by} and needs that version; this one reads runs of {FORMAT}: "
            "install that version, or start another run in another --workdir"
        )
    return record


@overload
def load(workdir: epath.PathLike) -> RunConfig: ...
@overload
def load(workdir: epath.PathLike, kind: type[C]) -> C: ...
def load(workdir: epath.PathLike, kind: type[RunConfig] = RunConfig) -> RunConfig:
    """Reads the configuration of the run in `workdir`: of class `kind`, or of the family's own class derived from it.

    Raises as `read` does, and ValueError for a run of another family or with other fields.
    """
    record = read(workdir)
    family = record.pop("family")
    classes = {name: task.config_class for name, task in FAMILIES.items()}
    needed = [name for name, of in classes.items() if issubclass(of, kind) or issubclass(kind, of)]
    if family not in needed:
        raise ValueError(f"{workdir} holds a {family} run, and a {' or '.join(needed)} run is needed")
    try:
        config_class = classes[family] if issubclass(classes[family], kind) else kind
        converter = cattrs.Converter(forbid_extra_keys=True)
        numbers = tuple[float, ...]
        # Levels are a name or numbers, and cattrs cannot tell which by itself.
        converter.register_structure_hook(
            Levels, lambda given, _: given if isinstance(given, str) else converter.structure(given, numbers)
        )
        return converter.structure({**record, "workdir": str(workdir)}, config_class)
    except (AttributeError, TypeError, cattrs.BaseValidationError) as error:
        known = isinstance(error, cattrs.BaseValidationError)
        detail = "; ".join(cattrs.transform_error(error, format_exception=_reason)) if known else str(error)
        derived = (
            ". Commands cannot load a run of a configuration of your own: in Python, load_sampler and load_translator "
            "take config_class=YourRun"
            if "extra fields" in detail
            else ""
        )
        path = files.resolve(workdir)
        path = path if weights_file.is_named(path) else path / NAME
        raise ValueError(f"{path} is not a configuration of this version of genjax: {detail}{derived}") from error


def _depending(config: RunConfig) -> str:
    """Names what makes updates depend on the number of steps, if anything does."""
    if not config.depends_on_num_steps:
        return ""
    schedule = f"--optim.schedule {config.optim.schedule}" if config.optim.schedule != "constant" else ""
    warmup = "--optim.warmup" if config.optim.warmup > 0 else ""
    return f": here {schedule or warmup or 'a warm-up or noise that is a share of it'} does"


def _reason(error: BaseException, kind: type | None) -> str:
    """Returns the reason for a rejected value: the message of the configuration's own check, or cattrs's."""
    return str(error) if type(error) is ValueError else cattrs.v.format_exception(error, kind)


def check_resumable(saved: RunConfig, config: RunConfig, finished: Collection[int], steps_known: bool = True) -> None:
    """Raises ValueError, with the fields, if a run of configuration `saved` cannot resume with `config`.

    `finished` are the numbers of steps after which it has a result. Without `steps_known`, another `num_steps` passes.
    """
    old, new = files.flatten(dataclasses.asdict(saved)), files.flatten(dataclasses.asdict(config))
    differing = {name for name in old | new if old.get(name) != new.get(name)} - MAY_CHANGE
    steps = "train.num_steps"
    # More steps go on with the same run, unless a schedule was made for fewer.
    longer = steps in differing and new[steps] > old[steps] and not config.depends_on_num_steps
    if longer or not steps_known:
        differing.discard(steps)
    # auto takes the loss that the run began with.
    if config.train.best_by == best.AUTO:
        differing.discard("train.best_by")
    dispatch = "train.steps_per_dispatch"
    if dispatch in differing and min(old[dispatch], new[dispatch]) > 1:  # all values above 1 give the same bits
        differing.remove(dispatch)
    if differing:
        fields = "\n".join(f"  {name}: {old.get(name)} -> {new.get(name)}" for name in sorted(differing))
        workdir = files.resolve(config.workdir)
        only = f"\n({steps} may only rise, and only where no schedule depends on it{_depending(config)})"
        hint = only if steps in differing else ""
        if differing == {steps} and new[steps] in finished:
            kept = workdir / f"result-{new[steps]}.json"
            hint += f"\n(the result after {new[steps]} steps is in {kept}, its checkpoint in checkpoints/{new[steps]})"
        raise ValueError(
            f"{workdir} holds a run with another configuration:\n{fields}{hint}\n"
            "Resume it with its own, or choose another --workdir"
        )
