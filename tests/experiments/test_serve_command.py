"""The command serve.py: options, the address that it binds, and what waits together."""

import queue
import socket
import sys
import threading
import time

import pytest
import uvicorn

import serve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warm_up": (256, 0)}, "--warm-up 0 is no side .* give sides from 1 to 2000"),
        ({"warm_up": (2001,)}, "--warm-up 2001 is no side"),
        ({"max_megabytes": 0}, "--max-megabytes must be at least 1, got 0"),
        ({"max_megapixels": 0, "warm_up": ()}, "--max-megapixels must be at least 1, got 0"),
        ({"port": 65536}, "--port must lie from 1 to 65535, got 65536"),
        ({"seed": -1}, r"--seed must lie in \[0, 2\*\*31\), got -1"),
    ],
)
def test_options_are_checked_before_a_model_is_loaded(options, said):
    with pytest.raises(ValueError, match=said):
        serve.Serve(workdir="unused", **options)


def test_bound_refuses_an_address_in_use_or_of_others():
    with serve.bound("127.0.0.1", 0) as address:
        assert address.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)  # a service may be started again at once
        address.listen()
        port = address.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen at --host 127.0.0.1 --port {port}, give others"):
            serve.bound("127.0.0.1", port)
    with pytest.raises(ValueError, match=r"cannot listen at --host 192.0.2.1 --port 8000"):
        serve.bound("192.0.2.1", 8000)
    serve.bound("127.0.0.1", port).close()


def test_bound_takes_addresses_of_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6")
    with serve.bound("::1", 0) as address:
        assert address.family == socket.AF_INET6


def test_main_binds_first_and_leaves_stdout_to_the_result(trained, monkeypatch):
    served = []

    def run(server, sockets):
        served.append((server.config, sockets))
        raise KeyboardInterrupt  # Ctrl-C, by which a service ends

    monkeypatch.setattr(uvicorn.Server, "run", run)
    with serve.bound("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(sys, "argv", ["serve.py", "--workdir", trained.workdir, "--which", "8", "--port", str(port)])
    assert serve.main() == {"workdir": trained.workdir, "step": 8}
    ((config, (address,)),) = served
    assert config.log_config is None and address.fileno() == -1  # closed
    monkeypatch.setattr(serve, "load", lambda *arguments: pytest.fail("loaded before the address is had"))
    with serve.bound("127.0.0.1", port) as taken:
        taken.listen()
        with pytest.raises(ValueError, match="cannot listen at"):
            serve.main()


def test_main_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py", "--workdir", "unused"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'genjax-images\[serve\]'"):
        serve.main()


def in_background(fn, item):
    """Calls `fn` in a thread, and returns a function that waits for its result, or its error, but not for ever."""
    answers = queue.SimpleQueue()

    def call():
        try:
            answers.put(fn(item))
        except ValueError as error:
            answers.put(str(error))

    threading.Thread(target=call, daemon=True).start()
    return lambda: answers.get(timeout=60)


def test_batched_runs_what_waits_together():
    begun, free, sizes = threading.Event(), threading.Event(), []

    def run(items):
        begun.set()
        free.wait(60)
        sizes.append(len(items))
        if -1 in items:
            raise ValueError("minus one")
        return [2 * item for item in items]

    def together(*items):
        """The results of items that come while an earlier one, 0, is computed."""
        begun.clear(), free.clear(), sizes.clear()
        first = in_background(double, 0)
        begun.wait(60)
        waiting = []
        for item in items:  # one after another, so that their order is known
            waiting.append(in_background(double, item))
            while double._waiting.qsize() < len(waiting):
                time.sleep(0.001)
        free.set()
        return [first(), *(wait() for wait in waiting)]

    double = serve.Batched(run, most=5)
    assert together(*range(1, 9)) == [2 * i for i in range(9)] and sizes == [1, 5, 3]
    assert together(-1, 3) == [0, "minus one", "minus one"] and sizes == [1, 2]
    assert double(7) == 14
