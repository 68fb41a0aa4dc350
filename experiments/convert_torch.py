"""Converts generators from and to PyTorch (pytorch-CycleGAN-and-pix2pix, and CUT's code).

$ python experiments/convert_torch.py to-genjax --a2b latest_net_G_A.pth --b2a latest_net_G_B.pth --workdir runs/horses
$ python experiments/convert_torch.py to-torch --workdir runs/horses --out checkpoints/horses

Both commands need PyTorch: pip install 'genjax-images[torch]'. Code in a file is never executed. A converted run can
translate but not train: a generator's file holds no discriminators and no moments of Adam. CUT's generators, from A to
B alone, have the same form if they were trained without anti-aliasing (--no_antialias --no_antialias_up); a training
may begin from one: train_cut.py --init-from latest_net_G.pth.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from tyro.conf import arg

from genjax import cli, files, flag_help, keys, parallel, torch_files
from genjax.config import OptimConfig, TrainConfig
from genjax.cut.config import CutRun
from genjax.cyclegan import losses, steps
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.data.config import DataConfig
from genjax.data.splits import Splits
from genjax.gan import torch_weights
from genjax.gan.config import GanRun
from genjax.gan.networks import Direction
from genjax.gan.starts import sizes_of
from genjax.gan.torch_weights import GeneratorSizes
from genjax.loading import Which, is_there, load_translator
from genjax.optim import Params
from genjax.train import checkpoint, config_file, environment, fingerprint, run_directory

NAMES: dict[Direction, str] = {"a2b": "latest_net_G_A.pth", "b2a": "latest_net_G_B.pth"}
"""Names of the original's generator files."""

OF_CUT: dict[Direction, str] = {"a2b": "latest_net_G.pth"}
"""Name of the generator's file in CUT's code."""

A2b = Annotated[
    str, arg(help="File of the generator from A to B: latest_net_G_A.pth, or latest_net_G.pth of a single generator.")
]
B2a = Annotated[str, arg(help="File of the generator from B to A. One of the two files is enough.")]
Key = Annotated[
    tuple[str, str],
    arg(help="Names of the generators from A to B and back, where a file holds several, such as netG_A netG_B."),
]
NewWorkdir = Annotated[str, arg(help="Directory of the run to be made; it must not exist, or be empty.")]
ImageSize = Annotated[
    tuple[int, int],
    arg(help="Height and width of its training images, for the record only: any size can be translated."),
]
Workdir = Annotated[str, arg(help="Directory of the run, or a file of its weights (.safetensors).")]
Out = Annotated[
    str, arg(help=f"Folder for {' and '.join(NAMES.values())}, or CUT's {OF_CUT['a2b']}; none is overwritten.")
]
Checkpoint = Annotated[Which, arg(help="The last checkpoint, the best on validation, or that of a step.")]


def to_genjax(
    workdir: NewWorkdir,
    a2b: A2b = "",
    b2a: B2a = "",
    key: Key = ("", ""),
    image_size: ImageSize = (256, 256),
) -> dict[str, Any]:
    """Makes a run for translate.py from one or two files; one file gives one direction."""
    both: dict[Direction, str] = {"a2b": a2b, "b2a": b2a}
    paths = {direction: path for direction, path in both.items() if path}
    if not paths:
        raise ValueError(f"nothing to convert: give --a2b {NAMES['a2b']}, --b2a {NAMES['b2a']}, or both")
    target = files.resolve(workdir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{workdir} exists already: give another --workdir")
    named: dict[Direction, str] = dict(zip(both, key, strict=True))
    read = {direction: torch_weights.read_generator(path, named[direction]) for direction, path in paths.items()}
    config = _config(workdir, paths, {direction: sizes for direction, (sizes, _) in read.items()}, image_size)
    params = {direction: weights for direction, (_, weights) in read.items()}
    _write(config, params, {"converted": {direction: _origin(path) for direction, path in paths.items()}})
    return {
        "workdir": str(workdir), "directions": " ".join(paths), "generator": config.cyclegan.generator,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)), "digest": fingerprint.tree_digest(params),
    }  # fmt: skip


def to_torch(workdir: Workdir, out: Out, which: Checkpoint = "last") -> dict[str, Any]:
    """Writes the averaged generators of a run as state dicts for the original's code."""
    names = OF_CUT if isinstance(config_file.load(workdir, GanRun), CutRun) else NAMES
    targets = {direction: files.resolve(out) / name for direction, name in names.items()}
    taken = [target for target in targets.values() if target.exists()]
    if taken:
        raise ValueError(f"{taken[0]} exists already: give another --out")
    translator = load_translator(workdir, which, parallel.make_mesh(jax.devices()[:1]))
    net = translator.config.net
    if net.section == "unit":
        raise ValueError(
            f"{workdir} is a UNIT, whose shared layers the original's code does not have: export.py --to safetensors "
            "writes its weights"
        )
    if net.output != "tanh":
        raise ValueError(
            f"{workdir} translates as x + T(G(x)) (output {net.output}), and the original's code cannot: only runs "
            f"with {net.flag('output')} tanh can be written for it"
        )
    if net.generator_norm != "instance" or net.norm_affine:
        raise ValueError(
            f"the generators of {workdir} have norm {net.generator_norm}{' with gains' if net.norm_affine else ''}, "
            "and the original's code reads plain instance normalisation: only runs with "
            f"{net.flag('generator_norm')} instance and without {net.flag('norm_affine')} can be written for it"
        )
    held = [direction for direction in targets if is_there(translator.params[direction])]
    for direction in held:
        tensors = torch_weights.to_tensors(sizes_of(translator.config, direction), translator.params[direction])
        torch_files.write(targets[direction], tensors)
    return {"out": str(out), "files": " ".join(names[direction] for direction in held), "step": translator.step}


def _from_a_to_b(sizes: GeneratorSizes, direction: Direction) -> GeneratorSizes:
    """Returns the sizes of the generator from A to B in the same CycleGAN."""
    back = sizes._replace(in_channels=sizes.out_channels, out_channels=sizes.in_channels)
    return sizes if direction == "a2b" else back


def _config(
    workdir: str, paths: dict[Direction, str], sizes: dict[Direction, GeneratorSizes], image_size: tuple[int, int]
) -> CycleGanRun:
    """Makes a configuration with the networks of the files; its data source does not exist, so it cannot train."""
    forms = {_from_a_to_b(sizes[direction], direction) for direction in paths}
    if len(forms) > 1:
        described = "; ".join(f"{path}: {sizes[direction]}" for direction, path in paths.items())
        raise ValueError(f"the generators are not of one CycleGAN ({described}): convert each to a run of its own")
    (form,) = forms
    # A file holds no discriminators and no pools, so use the smallest ones.
    net = CycleGanConfig(base_channels=form.base_channels, discriminator="pixel", discriminator_channels=1, pool_size=0)
    if form.kind == "resnet":
        net = dataclasses.replace(net, generator="resnet", num_blocks=form.depth)
    else:
        net = dataclasses.replace(net, generator="unet", num_downs=form.depth)
    return CycleGanRun(
        workdir=workdir,
        data=DataConfig(
            source="converted:" + ",".join(epath.Path(path).name for path in paths.values()),
            image_size=image_size,
            channels=(form.in_channels, form.out_channels),
            batch_size=1,
        ),
        optim=OptimConfig(learning_rate=2e-4, b1=0.5),
        train=TrainConfig(num_steps=1, eval_every=1, checkpoint_every=1),
        cyclegan=net,
        loss=dataclasses.replace(losses.CLASSIC, identity_a=0.0, identity_b=0.0),  # fits any channels
    )


def _origin(path: str) -> dict[str, str]:
    return {"file": epath.Path(path).name, "sha256": hashlib.sha256(files.resolve(path).read_bytes()).hexdigest()}


def _write(config: CycleGanRun, params: dict[Direction, Params], origin: dict[str, Any]) -> None:
    """Writes the run, with NaN for all weights that no file holds, so that their use is noticed."""
    shapes = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    unknown = jax.tree.map(
        lambda leaf: np.full(leaf.shape, np.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else 0, leaf.dtype), shapes
    )
    described = environment.describe(config) | origin
    workdir = files.resolve(config.workdir)
    with checkpoint.Saver(workdir / "checkpoints", config.train) as checkpoints:
        checkpoints.save(0, unknown._replace(ema=unknown.ema | params), described, None)
    # ORDER MATTERS: config.json is written last, so an interrupted conversion leaves a directory that is not a run.
    no_images: Splits = Splits((), (), ())
    run_directory.write(run_directory.Run(config, workdir, no_images, {}, described), unfinished=True)


VERBS: dict[str, Callable[..., dict[str, Any]]] = {"to-genjax": to_genjax, "to-torch": to_torch}

if __name__ == "__main__":
    cli.run(lambda: flag_help.call_verb(VERBS, __doc__))
