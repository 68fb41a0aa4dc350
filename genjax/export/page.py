"""HTML: one file that translates pictures, or explores latents, in a browser without a network.

It holds the ONNX programs, the runtime that computes them (onnxruntime-web, WebAssembly), and the script of the
family. The large parts are compressed; a browser unpacks them.
"""

import base64
import gzip
import hashlib
import json
import re
from importlib import resources
from xml.etree import ElementTree

import numpy as np
from etils import epath

from genjax import files
from genjax.checks import require
from genjax.export import onnx_file, web_runtime
from genjax.export.programs import Program
from genjax.families import task_of
from genjax.files import Json
from genjax.gan.networks import DOMAINS
from genjax.loading import Sampler, Translator
from genjax.report.elements import tag
from genjax.vae.usage import ACTIVE

MOST_SLIDERS, NUM_DRAWS = 24, 256
ROUNDS = 20  # of encoder and decoder, for the missing pixels of a picture

REMEDY = "give --to stablehlo or onnx"  # which hold any model

TEXTS = {
    "translator": "Give a photograph: the page translates it. It stays on this device.",
    "sampler": "Each slider is a latent dimension in use. Pictures that you give stay on this device.",
}
"""Words of a page about its use, by the name of its script."""


def content(model: Sampler | Translator, found: dict[str, Program], about: Json, runtime: epath.PathLike) -> bytes:
    """Returns the page of a model with these programs; `runtime` is the folder of onnxruntime-web.

    Raises ValueError for pictures that a browser has no samples for.
    """
    data, folder = model.config.data, files.resolve(runtime)
    most = max(data.channels)
    require(
        set(data.channels) <= {1, 3}, f"a page shows pictures of 1 or 3 channels, and this run has {most}: {REMEDY}"
    )
    require(
        data.levels == "full",
        f"a page shows all levels of a picture, and this run has --data.levels {data.levels}: {REMEDY}",
    )
    settings = {"programs": list(found), "ground": {"grey": "gray"}.get(data.ground, data.ground)}
    settings |= _of_translator(model) if isinstance(model, Translator) else _of_sampler(model, found)
    packed = {name: _packed((folder / part).read_bytes()) for name, part in web_runtime.PARTS.items()}
    for name, program in found.items():
        packed[f"program-{name}"] = _packed(_planes(onnx_file.serialized(program, {})))
    made_by = (
        f"Exported by genjax {about['config']['genjax']}: step {model.step}, digest "
        f"{about['provenance'].get('digest', '')[:8]}. Computed by ONNX Runtime Web {web_runtime.version(folder)}, "
        "Copyright (c) Microsoft Corporation, MIT License."
    )
    source = re.sub(r"[^:,]*/", "", data.source)  # without the folders of this machine
    kind = "translator" if isinstance(model, Translator) else "sampler"
    page = _page(kind, f"{task_of(model.config).title} of {source}", settings, packed, made_by)
    return b"<!doctype html>\n" + ElementTree.tostring(page, encoding="utf-8", method="html")


def _page(kind: str, title: str, settings: Json, packed: dict[str, str], made_by: str) -> ElementTree.Element:
    """Returns the page as a tree; its policy allows its own style and script, WebAssembly, and no network."""
    names = ("page.css", "worker.js", "common.js", f"{kind}.js")
    style, worker, *scripts = (resources.files(__package__).joinpath("web", name).read_text("utf-8") for name in names)
    script, packed = "".join(scripts), {"worker": worker, **packed}
    policy = (
        f"default-src 'none'; img-src blob: data:; style-src {_sha256(style)}; worker-src blob:; base-uri 'none'; "
        f"form-action 'none'; script-src {_sha256(script)} blob: 'wasm-unsafe-eval'"
    )
    head = tag("head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=policy),
               tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
               tag("title", title), tag("style", style))  # fmt: skip
    text = json.dumps(settings).replace("<", "\\u003c")  # nothing in it ends the element
    body = tag("body", tag("h1", title), tag("p", TEXTS[kind], class_="soft"), tag("div", id="main"),
               tag("footer", made_by), tag("div", id="state", role="status"),
               tag("script", text, type="application/json", id="settings"),
               *(tag("script", part, type="text/plain", id=name) for name, part in packed.items()),
               tag("script", script, type="module"))  # fmt: skip
    return tag("html", head, body, lang="en")


def _of_translator(model: Translator) -> Json:
    unit, smallest = model.config.net.generator_sizes
    side = min(512, max(64, 2 ** (max(model.config.data.image_size) - 1).bit_length()))
    return {"unit": unit, "smallest": smallest, "side": side,
            "channels": {way: model.config.data.channels[DOMAINS[way][0]] for way in model.directions}}  # fmt: skip


def _of_sampler(model: Sampler, found: dict[str, Program]) -> Json:
    """Returns shapes, and the dimensions in use, most used first: by which the model tells its own draws apart."""
    images = np.clip(model.prior(0, NUM_DRAWS), 0, 1)
    (mean, _) = (np.asarray(part) for part in found["encode"].fn(images))
    variance = np.var(mean, axis=0)
    order = np.argsort(-variance)[:MOST_SLIDERS]
    return {"shape": model.config.data.image_shapes[0], "latent_dim": model.model.latent_dim, "rounds": ROUNDS,
            "used": [int(i) for i in order if variance[i] > ACTIVE or i == order[0]]}  # fmt: skip


def _planes(program: bytes) -> bytes:
    """Returns the first bytes of all floats, then the second, third and fourth: gzip makes them a tenth smaller."""
    whole = len(program) // 4 * 4
    return np.frombuffer(program[:whole], np.uint8).reshape(-1, 4).T.tobytes() + program[whole:]


def _packed(part: bytes) -> str:
    return base64.b64encode(gzip.compress(part, mtime=0)).decode()  # without a time: the same bytes


def _sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
