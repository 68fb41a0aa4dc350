"""Generators of CycleGAN's PyTorch implementation (pytorch-CycleGAN-and-pix2pix) to a run, and those of a run back.

$ python experiments/convert_torch.py to-genjax --a2b latest_net_G_A.pth --b2a latest_net_G_B.pth --workdir runs/horses
$ python experiments/convert_torch.py to-torch --workdir runs/horses --out checkpoints/horses

The run is one to translate with, not to train: a generator's file has no discriminators and no moments of Adam. Reading
needs no PyTorch, and never runs what a file asks to have run; writing needs PyTorch.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import torch_names
import tyro
from etils import epath
from tyro.conf import arg

from genjax import cli, files, keys, parallel, torch_files
from genjax.config import DataConfig, OptimConfig, TrainConfig
from genjax.cyclegan import losses, steps
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun
from genjax.cyclegan.nets import DOMAINS, Direction
from genjax.loading import Which, is_there, load_translator
from genjax.train import checkpoint, fingerprint, run_directory

NAMES: dict[Direction, str] = {"a2b": "latest_net_G_A.pth", "b2a": "latest_net_G_B.pth"}
"""What the original calls the files of its generators."""

A2b = Annotated[
    str, arg(help="File of the generator from A to B: latest_net_G_A.pth, or latest_net_G.pth of one alone.")
]
B2a = Annotated[str, arg(help="File of the generator from B to A. One of the two files is enough.")]
NewWorkdir = Annotated[str, arg(help="Directory of the run to be made; it must not exist, or be empty.")]
ImageSize = Annotated[
    tuple[int, int], arg(help="Height and width that it was trained on, for the record: images of any size are taken.")
]
Workdir = Annotated[str, arg(help="Directory of the run.")]
Out = Annotated[str, arg(help=f"Folder for {NAMES['a2b']} and {NAMES['b2a']}; neither is overwritten.")]
Checkpoint = Annotated[Which, arg(help="The last checkpoint, or the best on validation (paired data only).")]


def to_genjax(workdir: NewWorkdir, a2b: A2b = "", b2a: B2a = "", image_size: ImageSize = (256, 256)) -> dict[str, Any]:
    """Makes a run that translate.py takes of one or two files; without one of them it has the other direction alone."""
    given: dict[Direction, str] = {"a2b": a2b, "b2a": b2a}
    given = {direction: path for direction, path in given.items() if path}
    if not given:
        raise ValueError(f"nothing to convert: give --a2b {NAMES['a2b']}, --b2a {NAMES['b2a']}, or both")
    target = files.resolve(workdir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{workdir} exists already: give another --workdir")
    tensors = {direction: _about(path, torch_names.clean, torch_files.read(path)) for direction, path in given.items()}
    config = _config(workdir, given, tensors, image_size)
    params = {
        direction: _about(path, torch_names.to_params, config, direction, tensors[direction])
        for direction, path in given.items()
    }
    _write(config, params, {"converted": {direction: _source(given.get(direction, "")) for direction in DOMAINS}})
    leaves = jax.tree.leaves(params)
    return {
        "workdir": str(workdir), "directions": " ".join(given), "generator": config.cyclegan.generator,
        "parameters": sum(leaf.size for leaf in leaves), "digest": fingerprint.tree_digest(params),
    }  # fmt: skip


def to_torch(workdir: Workdir, out: Out, which: Checkpoint = "last") -> dict[str, Any]:
    """Writes the averaged generators of a run as state dicts for the original's code."""
    targets = {direction: files.resolve(out) / name for direction, name in NAMES.items()}
    taken = [target for target in targets.values() if target.exists()]
    if taken:
        raise ValueError(f"{taken[0]} exists already: give another --out")
    translator = load_translator(workdir, which, parallel.make_mesh(jax.devices()[:1]))
    config = translator.config
    if config.cyclegan.output != "tanh":
        raise ValueError(
            f"{workdir} translates as x + T(G(x)) (output {config.cyclegan.output}), and the original's code cannot: "
            "only runs with --cyclegan.output tanh can be written for it"
        )
    held = [direction for direction in targets if is_there(translator.params[direction])]
    for direction in held:
        torch_files.write(targets[direction], torch_names.to_tensors(config, translator.params[direction]))
    return {"out": str(out), "files": " ".join(NAMES[direction] for direction in held), "step": translator.step}


def _about(path: str, fn: Callable, *arguments: Any) -> Any:
    """`fn(*arguments)`, whose ValueError is about the file at `path`."""
    try:
        return fn(*arguments)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _config(
    workdir: str, given: dict[Direction, str], tensors: dict[Direction, Any], image_size: tuple[int, int]
) -> CycleGanRun:
    """What the files tell of their networks, beside a source of data that no training can have."""
    found: list[tuple[CycleGanConfig, tuple[int, int]]] = []
    for direction, path in given.items():
        net, channels = _about(path, torch_names.form, tensors[direction])
        found.append((net, (channels[DOMAINS[direction][0]], channels[DOMAINS[direction][1]])))
    if found[0] != found[-1]:
        of = [f"{path}: {n.generator}, width {n.width}, blocks {n.blocks}, depth {n.depth}, channels in A and B {c}"
              for path, (n, c) in zip(given.values(), found, strict=True)]  # fmt: skip
        raise ValueError(f"the generators are none of one CycleGAN ({'; '.join(of)}): convert each to a run of its own")
    net, channels = found[0]
    return CycleGanRun(
        workdir=workdir,
        data=DataConfig(
            source="converted:" + ",".join(epath.Path(path).name for path in given.values()),
            image_size=image_size, channels=channels, batch_size=1,
        ),
        optim=OptimConfig(learning_rate=2e-4, b1=0.5),
        train=TrainConfig(num_steps=1, eval_every=1, checkpoint_every=1),
        cyclegan=net,
        loss=dataclasses.replace(losses.CLASSIC, identity_a=0.0, identity_b=0.0),  # which suits any channels
    )  # fmt: skip


def _source(path: str) -> dict[str, str] | None:
    if not path:
        return None
    content = files.resolve(path).read_bytes()
    return {"file": epath.Path(path).name, "sha256": hashlib.sha256(content).hexdigest()}


def _write(config: CycleGanRun, params: dict[Direction, Any], source: dict[str, Any]) -> None:
    """Writes the run, its config.json last: with that it is whole, and without no run.

    What no file holds is NaN, so that nothing can translate with it, or train from it, unnoticed.
    """
    shapes = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)))
    unknown = jax.tree.map(
        lambda leaf: np.full(leaf.shape, np.nan if jnp.issubdtype(leaf.dtype, jnp.floating) else 0, leaf.dtype), shapes
    )
    state = unknown._replace(ema=unknown.ema | params)
    environment = run_directory.environment(config) | source
    workdir = files.resolve(config.workdir)
    with checkpoint.Saver(workdir / "checkpoints", config.train) as checkpoints:
        checkpoints.save(0, state, environment, None)
    run_directory.write(workdir, config, {}, environment)


VERBS: dict[str, Callable[..., dict[str, Any]]] = {"to-genjax": to_genjax, "to-torch": to_torch}

if __name__ == "__main__":
    cli.run(lambda: tyro.extras.subcommand_cli_from_dict(VERBS, description=__doc__))
