"""Convolutions: a native form of each operation, and forms that are faster on a CPU or an NVIDIA GPU.

All forms of an operation agree up to rounding. Other platforms use XLA's native form. The gain of each form is in
experiments/results/speed.md.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros above and below, left and right
NO_PADDING: Padding = ((0, 0), (0, 0))

# Taps that meet inputs rather than zeros, and the padding: by kernel size, for even and odd outputs along an axis.
PHASES = {
    3: ((slice(1, 2), (0, 0)), (slice(0, 3, 2), (0, 1))),
    4: ((slice(0, 4, 2), (1, 0)), (slice(1, 4, 2), (0, 1))),
}

# Largest array (elements; 8 MiB in float32) whose sum stays in a CPU's cache. Measured: above 4 million it does not.
CACHED_SIZE = 1 << 21


def conv(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """Cross-correlates x [b, h, w, c], with `padding` zeros around it, and kernel [rows, columns, c, features].

    Returns [b, h', w', features] with h' = (h + zeros - rows) // stride + 1 and w' alike.
    """
    native, on_cpu = (functools.partial(fn, stride, padding) for fn in (conv_native, conv_cpu))
    # An NVIDIA GPU multiplies at least eight channels at a time; an image has fewer.
    narrow = stride == 1 and kernel.shape[2] < 8
    on_gpu = functools.partial(conv_rows_as_channels, padding) if narrow else native
    return lax.platform_dependent(x, kernel, cpu=on_cpu, cuda=on_gpu, default=native)


def conv_narrow(x: Array, kernel: Array) -> Array:
    """Computes `conv` of stride 1 without padding, in a form that is faster on a CPU for few channels."""
    # A CPU multiplies several channels at once. Not for training, whose gradients have other forms.
    missing = max(0, 8 - x.shape[-1])

    def widened(x: Array, kernel: Array) -> Array:
        x, kernel = jnp.pad(x, ((0, 0),) * 3 + ((0, missing),)), jnp.pad(kernel, ((0, 0),) * 2 + ((0, missing), (0, 0)))
        return conv(x, kernel, 1, NO_PADDING)

    native = functools.partial(conv, stride=1, padding=NO_PADDING)
    return lax.platform_dependent(x, kernel, cpu=widened, default=native) if missing else native(x, kernel)


def conv_by_rows(x: Array, kernel: Array) -> Array:
    """Computes `conv` of stride 1 without padding, for a large kernel and few features.

    Maps x [b, h, w, c] and kernel [rows, columns, c, features] to [b, h - rows + 1, w - columns + 1, features].
    """
    native = functools.partial(conv_native, 1, NO_PADDING)
    return lax.platform_dependent(x, kernel, cpu=conv_rows_as_features, cuda=conv_rows_as_features, default=native)


def conv_transpose(x: Array, kernel: Array) -> Array:
    """Computes a transposed convolution of stride 2, which doubles height and width.

    x is [b, h, w, c], kernel [k, k, c, features] with k = 3 or 4; returns [b, 2h, 2w, features].
    """
    # The faster forms multiply no zeros, mainly in the gradients.
    forms = {"cpu": transpose_by_phases, "cuda": transpose_by_depth, "default": transpose_native}
    return lax.platform_dependent(x, kernel, **forms)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def mirror(x: Array, border: int) -> Array:
    """Pads by reflection, edge excluded, to [b, h + 2 border, w + 2 border, c]. h and w exceed `border`."""
    # On an NVIDIA GPU it is a gather, which XLA fuses with the operation before it. The gradient of a gather would add
    # pixels in any order, so the gradient is always that of the native form.
    forms = {"cuda": mirror_by_gather, "default": mirror_native}
    return lax.platform_dependent(x, **{platform: functools.partial(form, border) for platform, form in forms.items()})


def mirror_native(border: int, x: Array) -> Array:
    """Computes `mirror` by `jnp.pad`."""
    return jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")


def mirror_by_gather(border: int, x: Array) -> Array:
    """Computes `mirror` by indexing rows and columns."""
    rows, columns = (_mirrored(size, border) for size in x.shape[1:3])
    return x.at[:, rows].get(mode="clip").at[:, :, columns].get(mode="clip")


def _mirrored(size: int, border: int) -> np.ndarray | Array:
    """Returns which row each row of a mirrored map shows; a symbolic size makes it part of the program."""
    place = (np if isinstance(size, int) else jnp).arange(-border, size + border)
    mirrored: np.ndarray | Array = size - 1 - abs(size - 1 - abs(place))
    return mirrored


def _mirror_forward(x: Array, border: int) -> tuple[Array, Array]:
    return mirror(x, border), x


def mirror_backward(border: int, x: Array, cotangent: Array) -> tuple[Array]:
    """Computes the gradient of `mirror`: the transpose of the native form."""
    (x_grad,) = jax.linear_transpose(functools.partial(mirror_native, border), x)(cotangent)
    return (x_grad,)


mirror.defvjp(_mirror_forward, mirror_backward)


def conv_native(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """Computes `conv` by XLA, with the gradients that JAX derives."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def conv_rows_as_channels(padding: Padding, x: Array, kernel: Array) -> Array:
    """Computes `conv` of stride 1 with a kernel of one row, on row-shifted copies of x stacked as channels."""
    rows, columns, channels, features = kernel.shape
    (_, sides), x = padding, jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0)))
    height = x.shape[1] - rows + 1
    # copies[n, m, (i, c)] = x[n + i, m, c], and the kernel's rows and channels become one axis too.
    copies = jnp.concatenate([x[:, row : row + height] for row in range(rows)], axis=-1)
    turned = kernel.transpose(1, 0, 2, 3).reshape(1, columns, rows * channels, features)
    return conv_native(1, ((0, 0), sides), copies, turned)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def conv_cpu(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """Computes `conv`, with gradients by `input_grad` and `kernel_grad`."""
    if stride > 1 or padding != NO_PADDING:
        return conv_native(stride, padding, x, kernel)
    # Without any padding jaxlib 0.10 is up to four times slower than with one row, so pad one row and cut it off. Later
    # versions are equally fast either way.
    return conv_native(1, ((0, 1), (0, 0)), x, kernel)[:, :-1]


def _conv_cpu_forward(stride: int, padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return conv_cpu(stride, padding, x, kernel), (x, kernel)


def _conv_cpu_backward(
    stride: int, padding: Padding, saved: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    rows, columns, *_ = kernel.shape
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    kernel_cotangent = kernel_grad(padded, cotangent, stride, rows, columns)
    return input_grad(x, kernel, cotangent, stride, padding), kernel_cotangent


conv_cpu.defvjp(_conv_cpu_forward, _conv_cpu_backward)


def input_grad(x: Array, kernel: Array, cotangent: Array, stride: int, padding: Padding) -> Array:
    """Computes the gradient of x [b, h, w, c] from that of the outputs, `cotangent` [b, h', w', features]."""
    rows, columns, channels, features = kernel.shape
    b, height, width, _ = cotangent.shape
    (top, _), (left, right) = padding
    # 1. XLA inserts zeros into `cotangent` and multiplies those too. A matrix product multiplies each number by the
    # kernel once, and the products are added up at their pixels.
    if features >= channels and b * height * width * rows * columns * channels <= CACHED_SIZE:
        products = jnp.einsum("nf,kf->nk", cotangent.reshape(-1, features), kernel.reshape(-1, features))
        products = products.reshape(b, height, width, rows, columns, channels)
        return _add_up(products, stride, (top, left), x.shape)
    # 2. If the products exceed the cache, a convolution along the width adds up those of one kernel row.
    if features >= channels and stride == 1 and rows > 2:
        turned = kernel[:, ::-1].transpose(1, 3, 0, 2).reshape(1, columns, features, rows * channels)
        products = conv_native(1, ((0, 0), (columns - 1 - left, columns - 1 - right)), cotangent, turned)
        return _add_up(products.reshape(b, height, -1, rows, 1, channels), 1, (top, 0), x.shape)
    # 3. Otherwise, as with fewer features than channels, XLA's form.
    (x_grad,) = jax.vjp(lambda x: conv_native(stride, padding, x, kernel), x)[1](cotangent)
    return x_grad


def _add_up(products: Array, stride: int, cut: tuple[int, int], shape: tuple[int, ...]) -> Array:
    """Adds [b, h', w', rows, columns, c] up to [b, h, w, c] = `shape`.

    Product [n, m, i, j] belongs to pixel stride (n, m) + (i, j) - `cut`; products outside the image are dropped.
    """
    _, tall, wide, rows, columns, _ = products.shape
    _, height, width, _ = shape

    def border(taps: int, cut: int, num: int, size: int) -> tuple[int, int, int]:
        return taps - 1 - cut, size + cut - stride * (num - 1) - 1, stride - 1

    # Spread the products `stride` apart and pad them, so that output row r of tap i is row r + rows - 1 - i.
    none = (0, 0, 0)
    borders = (none, border(rows, cut[0], tall, height), border(columns, cut[1], wide, width), none, none, none)
    products = lax.pad(products, jnp.zeros((), products.dtype), borders)
    shifted = (
        products[:, rows - 1 - i : rows - 1 - i + height, columns - 1 - j : columns - 1 - j + width, i, j]
        for i in range(rows)
        for j in range(columns)
    )
    return functools.reduce(operator.add, shifted)


def kernel_grad(x: Array, cotangent: Array, stride: int, rows: int, columns: int) -> Array:
    """Computes the gradient of a kernel [rows, columns, c, features] from x [b, h, w, c] and the outputs' `cotangent`.

    d[i, j, c, f] = sum over b, h, w of x[b, stride h + i, stride w + j, c] cotangent[b, h, w, f]
    """
    # XLA convolves with a kernel as large as the map, which is several times slower for large maps. Here it is a
    # convolution along the height only: each column of an image is a channel, with a shifted copy for each j.
    b, height, width, features = cotangent.shape
    channels, tall, wide = x.shape[-1], stride * (height - 1) + rows, stride * (width - 1) + columns
    small = x.size * columns <= CACHED_SIZE
    x, cotangent = x[:, :tall, :wide].swapaxes(0, 1), cotangent.swapaxes(0, 1)
    # Copy the map with fewer channels. If both have the same number and the copies are small, copy x: its result needs
    # no transposition.
    copies_of_x = stride > 1 or channels < features or (channels == features and small)
    if copies_of_x:
        x = jnp.stack([x[:, :, j : wide - columns + 1 + j : stride] for j in range(columns)], axis=3)
    else:
        borders = [(j, columns - 1 - j) for j in range(columns)]
        cotangent = jnp.stack([jnp.pad(cotangent, ((0, 0), (0, 0), border, (0, 0))) for border in borders], axis=3)
    x, cotangent = x.reshape(tall, b * x.shape[2], -1), cotangent.reshape(height, b * x.shape[2], -1)
    # Along the height, `cotangent` slides over x as the kernel; the sum over b and w is the sum over input channels.
    dimensions = ("HCN", "HIO", "HNC")
    d = lax.conv_general_dilated(x, cotangent, (1,), ((0, 0),), rhs_dilation=(stride,), dimension_numbers=dimensions)
    if copies_of_x:
        return d.reshape(rows, columns, channels, features)
    return d.reshape(rows, channels, columns, features).swapaxes(1, 2)


def conv_rows_as_features(x: Array, kernel: Array) -> Array:
    """Computes `conv_by_rows` by one convolution to the features of all kernel rows, and a sum of shifted rows."""
    rows, columns, channels, features = kernel.shape
    # Kernel [rows, columns, c, f] -> [1, columns, c, (rows, f)].
    wide = kernel.transpose(1, 2, 0, 3).reshape(1, columns, channels, rows * features)
    parts = conv(x, wide, 1, NO_PADDING)
    height = x.shape[1] - rows + 1
    shifted = [parts[:, row : row + height, :, row * features : (row + 1) * features] for row in range(rows)]
    return functools.reduce(operator.add, shifted)


def transpose_native(x: Array, kernel: Array) -> Array:
    """Computes `conv_transpose` by XLA, with zeros between the pixels of x."""
    borders = {3: (1, 2), 4: (2, 2)}[kernel.shape[0]]  # of the input with zeros between its pixels
    return lax.conv_general_dilated(
        x, kernel, (1, 1), (borders, borders), lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS
    )


def transpose_by_phases(x: Array, kernel: Array) -> Array:
    """Computes `conv_transpose` by four convolutions, one for each parity of row and column."""
    b, h, w, _ = x.shape
    # The output with row parity p and column parity q sees every second tap alone; interleave the four.
    phases = PHASES[kernel.shape[0]]
    parts = [conv(x, kernel[rows, columns], 1, (top, left)) for rows, top in phases for columns, left in phases]
    x = jnp.stack(parts, axis=3).reshape(b, h, w, 2, 2, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)


def transpose_by_depth(x: Array, kernel: Array) -> Array:
    """Computes `conv_transpose` by one convolution of 2x2 taps to 4 * features channels, then depth to space."""
    b, h, w, channels = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    top = size - 3  # outputs 2i - 1 and 2i see inputs i - 1 and i of a 4x4 kernel; 2i and 2i + 1 see i and i + 1 of 3x3
    # Taps [4, 4, c, f] become [2, 2, c, 4 f]: two inputs along each axis, and four outputs for each feature.
    taps = jnp.pad(kernel, ((0, 4 - size), (0, 4 - size), (0, 0), (0, 0)))
    taps = taps.reshape(2, 2, 2, 2, channels, features)[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    x = conv(x, taps.reshape(2, 2, channels, 4 * features), 1, ((top, 1), (top, 1)))
    x = x.reshape(b, h + top, w + top, 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, 2 * (h + top), 2 * (w + top), features)
    return x[:, top : top + 2 * h, top : top + 2 * w]
