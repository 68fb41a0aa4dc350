"""Serves a trained model over HTTP: a VAE's new images, or the translations of another family.

$ python experiments/serve.py --workdir runs/vae
$ curl localhost:8000/samples/7 --output 7.png
$ python experiments/serve.py --workdir runs/cyclegan
$ curl localhost:8000/a2b --data-binary @photo.jpg --output translated.png

Sample 7 is always the same image: it follows from the model, --seed and 7. A translation is a PNG of its picture's size
and depth. localhost:8000/openapi.json describes the service for programs, and localhost:8000/ says what is served. A
request that cannot be answered gets status 4xx and the reason. Requests for samples that wait for the model share its
next call; pictures are translated one after another.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import math
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import numpy as np
import tyro

from genjax import cli, flag_help, keys
from genjax.checks import check_seed, flag, require
from genjax.data import conversion, image_arrays, pictures
from genjax.gan.canvas_sizes import Group
from genjax.gan.networks import DOMAINS, Direction
from genjax.loading import Sampler, Translator, Which, load

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serve:
    """Options: the model, the address, and limits of a request."""

    workdir: str
    """Directory of the training run, or a file of its weights (.safetensors)."""
    which: Which = "last"
    """The last checkpoint, the best on validation, or that of a step."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 stands for all addresses of this machine."""
    port: int = 8000
    """Port to listen at."""
    seed: int = 0
    """Seed of a VAE's samples."""
    max_megabytes: int = 20
    """Largest body of a request."""
    max_megapixels: int = 4
    """Largest picture that is translated; a side below 32 pixels counts as 32."""
    warm_up: tuple[int, ...] = (256,)
    """Sides of square pictures for which programs of translation are compiled before the service answers. Others are
    compiled when they come, for height and width rounded up to powers of 2; the last few are kept."""

    def __post_init__(self) -> None:
        for name in ("max_megabytes", "max_megapixels"):
            require(getattr(self, name) >= 1, f"{flag('', name)} must be at least 1, got {getattr(self, name)}")
        require(1 <= self.port < 2**16, f"--port must lie from 1 to 65535, got {self.port}")
        check_seed("--seed", self.seed)
        for side in self.warm_up:
            require(
                side >= 1 and side**2 <= self.max_megapixels * 10**6,
                f"--warm-up {side} is no side of a square picture of at most --max-megapixels {self.max_megapixels}: "
                f"give sides from 1 to {math.isqrt(self.max_megapixels * 10**6)}",
            )


class Batched(Generic[T, R]):
    """A function of one item, which a thread calls for all items that wait, in order, `most` at a time."""

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]], most: int) -> None:
        self._waiting: queue.SimpleQueue[tuple[T, Future[R]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, args=(run, most), daemon=True).start()

    def __call__(self, item: T) -> R:
        """Returns the result of `item`, or raises what running its batch raised."""
        done: Future[R] = Future()
        self._waiting.put((item, done))
        return done.result()

    def _serve(self, run: Callable[[Sequence[T]], Sequence[R]], most: int) -> None:
        while True:
            # No clock: while one batch runs, the next one gathers.
            batch = [self._waiting.get()]
            while len(batch) < most and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                for (_, done), result in zip(batch, run([item for item, _ in batch]), strict=True):
                    done.set_result(result)
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)


def main() -> dict[str, Any]:
    """Loads the model, answers requests until Ctrl-C, and returns what was served."""
    options = tyro.cli(Serve, description=flag_help.description(__doc__))
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise ModuleNotFoundError("serving needs FastAPI and uvicorn: pip install 'genjax-images[serve]'")
    import uvicorn

    with bound(options.host, options.port) as address:  # before a model is loaded and compiled
        model = load(options.workdir, options.which)
        app = make_app(model, options)
        logging.info("serving %r", model)
        # Without a log_config uvicorn logs as genjax does: to stderr, requests too.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, log_config=None)).run([address])
    return {"workdir": options.workdir, "step": model.step}


def bound(host: str, port: int) -> socket.socket:
    """Binds a socket to the address, without listening yet; raises ValueError if it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.socket(family)
    try:
        address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address.bind((host, port))
    except OSError as error:
        address.close()
        raise ValueError(f"cannot listen at --host {host} --port {port}, give others: {error}") from error
    return address


def make_app(model: Sampler | Translator, options: Serve) -> Any:
    """Compiles what requests need, and returns the FastAPI application."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    # No /docs: its page loads scripts from another server, and this one may be without a network.
    app = FastAPI(title="genjax", description=repr(model), docs_url=None, redoc_url=None)
    app.add_api_route("/", lambda: {"model": repr(model), "step": model.step})
    app.add_exception_handler(Refused, lambda _, error: JSONResponse({"detail": str(error)}, error.status))
    if isinstance(model, Sampler):
        add_samples(app, model, options)
    else:
        add_translations(app, model, options)
    return app


class Refused(Exception):
    """A request that cannot be answered, with the reason and the HTTP status."""

    def __init__(self, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.status = status


def add_samples(app: Any, sampler: Sampler, options: Serve) -> None:
    """Adds new images: GET /samples/7."""
    from fastapi import Response

    root = keys.root_key(options.seed)

    def draw_all(positions: Sequence[int]) -> list[np.ndarray]:
        return list(image_arrays.to_uint8(sampler.prior(root, np.array(positions, np.int32))))

    draw = Batched(draw_all, most=64)
    draw(0)  # compiles

    def sample(position: int) -> Response:
        """Draws new image number `position`, from 0."""
        if not 0 <= position < 2**31:
            raise Refused(f"images are numbered from 0 to {2**31 - 1}, got {position}")
        return Response(image_arrays.encode_png(draw(position)), media_type="image/png")

    app.add_api_route("/samples/{position}", sample, response_class=Response)


def add_translations(app: Any, translator: Translator, options: Serve) -> None:
    """Adds translations: POST /a2b and /b2a, with a picture's file as the body."""
    from fastapi import Request, Response
    from fastapi.concurrency import run_in_threadpool

    data, one_at_a_time = translator.config.data, threading.Lock()

    def translate(direction: Direction, image: np.ndarray) -> np.ndarray:
        rows, columns = (max(64, 1 << (side - 1).bit_length()) for side in image.shape[:2])
        # A canvas of a picture whose sides are 32 at least is less than four times as large.
        if rows * columns > 4 * options.max_megapixels * 10**6:
            raise Refused(f"{image.shape[0]}x{image.shape[1]} pixels are too long and narrow: cut the picture in parts")
        group = Group(rows, columns, batch=1, batches=[])
        with one_at_a_time:  # each takes all cores, and the memory of a canvas
            return translator.translate_group(direction, [image], group)[0]

    for direction in translator.directions:
        for side in options.warm_up:
            translate(direction, np.zeros((side, side, data.channels[DOMAINS[direction][0]]), np.float32))

    def answer(direction: Direction, body: bytes) -> bytes:
        source, goal = DOMAINS[direction]
        if direction not in translator.directions:
            raise Refused(f"this model has no generator {direction}: it translates {' '.join(translator.directions)}")
        try:
            picture = pictures.decode(body, max_megapixels=options.max_megapixels)
            floats = conversion.to_floats(picture, data, source)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises nearly anything on bad bytes
            raise Refused(f"cannot translate this picture: {error}") from error
        values = translate(direction, floats)
        made = conversion.from_floats(values, conversion.opaque(picture, data, source), data, goal)
        try:
            return pictures.encode("translation.png", made)
        except ValueError as error:  # floating point, or five channels
            raise Refused(str(error)) from error

    async def translation(direction: Direction, request: Request) -> Response:
        """Translates the picture in the body, a file of any format that trains."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > options.max_megabytes * 10**6:
                raise Refused(f"the body has more than {options.max_megabytes} megabytes", 413)
        return Response(await run_in_threadpool(answer, direction, bytes(body)), media_type="image/png")

    app.add_api_route("/{direction}", translation, methods=["POST"], response_class=Response)


if __name__ == "__main__":
    cli.run(main)
