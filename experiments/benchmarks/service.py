"""Load-tests serve.py on the loopback: requests a second, and how long they take.

$ python experiments/benchmark.py service --workdir runs/vae

Clients ask one after the other, without a pause, for samples of a VAE or for translations a2b of pictures of noise. The
server runs in a process of its own, and shares the machine with the clients. Times are in milliseconds.
"""

import dataclasses
import http.client
import io
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from genjax import flag_help
from genjax.train import config_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The model, and the load."""

    workdir: str
    """Directory of the training run."""
    clients: int = 16
    """Clients that ask at the same time."""
    seconds: float = 20.0
    """Seconds that they ask."""
    size: int = 128
    """Side of the pictures to translate."""
    port: int = 8437
    """Port of the server, which must be free."""


def main() -> dict[str, Any]:
    """Returns requests a second, the median and the 99th percentile of the times, and the time to the first answer."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    config = config_file.load(options.workdir)
    script = Path(__file__).parents[1] / "serve.py"
    command = [sys.executable, str(script), "--workdir", options.workdir, "--port", str(options.port)]
    began = time.perf_counter()
    server = subprocess.Popen(
        [*command, "--warm-up", str(options.size)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(options.port, server)
        started = time.perf_counter() - began
        noise = np.random.default_rng(0).integers(0, 256, (options.size, options.size, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "PNG")
        translates = len(config.data.channels) == 2
        body = buffer.getvalue() if translates else None
        times: list[float] = []
        ends = time.perf_counter() + options.seconds

        def client(first: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", options.port)
            position = first
            while time.perf_counter() < ends:
                asked = time.perf_counter()
                connection.request(*(("POST", "/a2b", body) if translates else ("GET", f"/samples/{position}")))
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"the server answered {answer.status}: {content[:200]!r}")
                times.append(time.perf_counter() - asked)
                position += options.clients

        threads = [threading.Thread(target=client, args=(i,)) for i in range(options.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.terminate()
        server.wait()
    median, late = (1000 * float(np.percentile(times, share)) for share in (50, 99))
    return {
        "workdir": options.workdir, "clients": options.clients, "requests": len(times),
        "requests_per_second": round(len(times) / options.seconds, 1), "median_ms": round(median, 1),
        "p99_ms": round(late, 1), "start_seconds": round(started, 1),
    }  # fmt: skip


def _wait(port: int, server: subprocess.Popen) -> None:
    """Waits until the server answers; raises RuntimeError if it ends before."""
    while True:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {server.returncode}: is port {port} free?")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/"):
                return
        except OSError:
            time.sleep(0.05)
