"""Convolutions in the forms that each platform runs fast; all forms compute the same, up to rounding.

Platforms that are not named have XLA's own form. What each form gains: experiments/results/speed.md.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros above and below, left and right."""

NO_PADDING: Padding = ((0, 0), (0, 0))

PHASES = {
    3: ((slice(1, 2), (0, 0)), (slice(0, 3, 2), (0, 1))),
    4: ((slice(0, 4, 2), (1, 0)), (slice(1, 4, 2), (0, 1))),
}
"""For even and odd outputs along one axis: which taps of the kernel meet inputs that are not zeros, and the borders."""

CACHED = 1 << 21
"""As many numbers (8 MiB in float32) are still quickly added up by a processor; from four million on they were not."""


def conv(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """Cross-correlation of x [b, h, w, c], with `padding` zeros around it, and kernel [rows, columns, c, features].

    To [b, h', w', features], h' = (h + zeros - rows) // stride + 1 and w' alike. An NVIDIA GPU multiplies eight
    channels at a time, or more: for fewer, as an image has, and stride 1 the rows of the kernel are channels there.
    """
    native, on_cpu = (functools.partial(fn, stride, padding) for fn in (_native, _on_cpu))
    narrow = stride == 1 and kernel.shape[2] < 8
    on_gpu = functools.partial(_rows_as_channels, padding) if narrow else native
    return lax.platform_dependent(x, kernel, cpu=on_cpu, cuda=on_gpu, default=native)


def conv_by_rows(x: Array, kernel: Array) -> Array:
    """x [b, h, w, c] by kernel [rows, columns, c, features], without zeros: for a large kernel and few features.

    To [b, h - rows + 1, w - columns + 1, features]. On a CPU or an NVIDIA GPU each row of the kernel is a set of output
    channels of one convolution, whose shifted rows are then added.
    """
    native = functools.partial(_native, 1, NO_PADDING)
    return lax.platform_dependent(x, kernel, cpu=_by_rows, cuda=_by_rows, default=native)


def conv_transpose(x: Array, kernel: Array) -> Array:
    """x [b, h, w, c] between zeros and with zeros between its pixels, by kernel [3 or 4, the same, c, features].

    To [b, 2h, 2w, features]. On a CPU it is four convolutions, one for each parity of row and column, on an NVIDIA GPU
    one to four times the features: their gradients run many times faster there.
    """
    forms = {"cpu": _transpose_by_phases, "cuda": _transpose_by_depth, "default": _transpose_native}
    return lax.platform_dependent(x, kernel, **forms)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def mirror(x: Array, border: int) -> Array:
    """x [b, h, w, c], h and w above `border`, with a border that mirrors it, edge excluded.

    To [b, h + 2 border, w + 2 border, c]. On an NVIDIA GPU by a gather, which XLA makes one kernel with what comes
    before it. Its gradient would add pixels up in any order, so it is that of the concatenation everywhere.
    """
    forms = {"cuda": _mirror_gathered, "default": _mirror_native}
    return lax.platform_dependent(x, **{platform: functools.partial(form, border) for platform, form in forms.items()})


def _mirror_native(border: int, x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")


def _mirror_gathered(border: int, x: Array) -> Array:
    rows, columns = (np.pad(np.arange(size), border, mode="reflect") for size in x.shape[1:3])
    return x.at[:, rows].get(mode="clip").at[:, :, columns].get(mode="clip")


def _mirror_forward(x: Array, border: int) -> tuple[Array, Array]:
    return mirror(x, border), x


def _mirror_backward(border: int, x: Array, slope: Array) -> tuple[Array]:
    (x_slope,) = jax.linear_transpose(functools.partial(_mirror_native, border), x)(slope)
    return (x_slope,)


mirror.defvjp(_mirror_forward, _mirror_backward)


def _native(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def _rows_as_channels(padding: Padding, x: Array, kernel: Array) -> Array:
    """`_native` of stride 1, of a kernel of one row on copies of x, each shifted by one row."""
    rows, columns, channels, features = kernel.shape
    (_, sides), x = padding, jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0)))
    height = x.shape[1] - rows + 1
    copies = jnp.concatenate([x[:, row : row + height] for row in range(rows)], axis=-1)
    turned = kernel.transpose(1, 0, 2, 3).reshape(1, columns, rows * channels, features)
    return _native(1, ((0, 0), sides), copies, turned)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _on_cpu(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """`_native`, with the gradients of x and kernel by `_input_slope` and `_kernel_slope`."""
    if stride > 1 or padding != NO_PADDING:
        return _native(stride, padding, x, kernel)
    # The library that jaxlib 0.10 calls without any border is up to four times slower than what it calls with one, here
    # a row. Later versions are as fast either way.
    return _native(1, ((0, 1), (0, 0)), x, kernel)[:, :-1]


def _on_cpu_forward(stride: int, padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _on_cpu(stride, padding, x, kernel), (x, kernel)


def _on_cpu_backward(stride: int, padding: Padding, saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows, columns, *_ = kernel.shape
    kernel_slope = _kernel_slope(jnp.pad(x, ((0, 0), *padding, (0, 0))), slope, stride, rows, columns)
    return _input_slope(x, kernel, slope, stride, padding), kernel_slope


_on_cpu.defvjp(_on_cpu_forward, _on_cpu_backward)


def _input_slope(x: Array, kernel: Array, slope: Array, stride: int, padding: Padding) -> Array:
    """The gradient of x [b, h, w, c] whose outputs [b, h', w', features] have gradient `slope`.

    XLA takes it for a convolution of `slope` between zeros, and multiplies those too. Here each number of `slope` meets
    the kernel once, in a matrix product, and the products are added up where they belong; if they are too many for a
    processor's cache, those of one row of the kernel are added up in a convolution along the width. With few features
    there is too little to multiply for as many products.
    """
    rows, columns, channels, features = kernel.shape
    b, height, width, _ = slope.shape
    (top, _), (left, right) = padding
    if features >= channels and b * height * width * rows * columns * channels <= CACHED:
        products = jnp.einsum("nf,kf->nk", slope.reshape(-1, features), kernel.reshape(-1, features))
        products = products.reshape(b, height, width, rows, columns, channels)
        return _add_up(products, stride, (top, left), x.shape)
    if features >= channels and stride == 1 and rows > 2:
        turned = kernel[:, ::-1].transpose(1, 3, 0, 2).reshape(1, columns, features, rows * channels)
        products = _native(1, ((0, 0), (columns - 1 - left, columns - 1 - right)), slope, turned)
        return _add_up(products.reshape(b, height, -1, rows, 1, channels), 1, (top, 0), x.shape)
    (x_slope,) = jax.vjp(lambda x: _native(stride, padding, x, kernel), x)[1](slope)
    return x_slope


def _add_up(products: Array, stride: int, cut: tuple[int, int], shape: tuple[int, ...]) -> Array:
    """[b, h', w', rows, columns, c], of which [n, m, i, j] belongs at stride (n, m) + (i, j) - `cut`, to [b, h, w, c].

    `shape` is [b, h, w, c]; what would lie outside is dropped.
    """
    _, tall, wide, rows, columns, _ = products.shape
    _, height, width, _ = shape

    def border(taps: int, cut: int, num: int, size: int) -> tuple[int, int, int]:
        return taps - 1 - cut, size + cut - stride * (num - 1) - 1, stride - 1

    none = (0, 0, 0)
    borders = (none, border(rows, cut[0], tall, height), border(columns, cut[1], wide, width), none, none, none)
    products = lax.pad(products, jnp.zeros((), products.dtype), borders)
    shifted = (
        products[:, rows - 1 - i : rows - 1 - i + height, columns - 1 - j : columns - 1 - j + width, i, j]
        for i in range(rows)
        for j in range(columns)
    )
    return functools.reduce(operator.add, shifted)


def _kernel_slope(x: Array, slope: Array, stride: int, rows: int, columns: int) -> Array:
    """The gradient of a kernel [rows, columns, c, features] whose outputs, for x [b, h, w, c], have gradient `slope`.

        d[i, j, c, f] = sum over b, h, w of x[b, stride h + i, stride w + j, c] slope[b, h, w, f]

    XLA takes it for a convolution with a kernel of the map's size, for large maps several times slower. Here it is one
    along the height alone, to which a column of an image is a channel, with a shifted copy for each j: of x if the
    stride is above 1, if x has fewer channels, or if it has as many and the copies are small, as the result then needs
    no transposition; else of `slope`.
    """
    b, height, width, features = slope.shape
    channels, tall, wide = x.shape[-1], stride * (height - 1) + rows, stride * (width - 1) + columns
    small = x.size * columns <= CACHED
    x, slope = x[:, :tall, :wide].swapaxes(0, 1), slope.swapaxes(0, 1)
    copies_of_x = stride > 1 or channels < features or (channels == features and small)
    if copies_of_x:
        x = jnp.stack([x[:, :, j : wide - columns + 1 + j : stride] for j in range(columns)], axis=3)
    else:
        borders = [(j, columns - 1 - j) for j in range(columns)]
        slope = jnp.stack([jnp.pad(slope, ((0, 0), (0, 0), border, (0, 0))) for border in borders], axis=3)
    x, slope = x.reshape(tall, b * x.shape[2], -1), slope.reshape(height, b * x.shape[2], -1)
    dimensions = ("HCN", "HIO", "HNC")
    d = lax.conv_general_dilated(x, slope, (1,), ((0, 0),), rhs_dilation=(stride,), dimension_numbers=dimensions)
    if copies_of_x:
        return d.reshape(rows, columns, channels, features)
    return d.reshape(rows, channels, columns, features).swapaxes(1, 2)


def _by_rows(x: Array, kernel: Array) -> Array:
    rows, columns, channels, features = kernel.shape
    wide = kernel.transpose(1, 2, 0, 3).reshape(1, columns, channels, rows * features)
    parts = conv(x, wide, 1, NO_PADDING)
    height = x.shape[1] - rows + 1
    shifted = [parts[:, row : row + height, :, row * features : (row + 1) * features] for row in range(rows)]
    return functools.reduce(operator.add, shifted)


def _transpose_native(x: Array, kernel: Array) -> Array:
    borders = {3: (1, 2), 4: (2, 2)}[kernel.shape[0]]  # of the input with zeros between its pixels
    return lax.conv_general_dilated(
        x, kernel, (1, 1), (borders, borders), lhs_dilation=(2, 2), dimension_numbers=DIMENSIONS
    )


def _transpose_by_phases(x: Array, kernel: Array) -> Array:
    b, h, w, _ = x.shape
    phases = PHASES[kernel.shape[0]]
    parts = [conv(x, kernel[rows, columns], 1, (top, left)) for rows, top in phases for columns, left in phases]
    x = jnp.stack(parts, axis=3).reshape(b, h, w, 2, 2, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)


def _transpose_by_depth(x: Array, kernel: Array) -> Array:
    """A convolution by 2x2 taps to four phases of each pixel, then depth to space."""
    b, h, w, channels = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    top = size - 3  # outputs 2i - 1 and 2i see inputs i - 1 and i of a 4x4 kernel; 2i and 2i + 1 see i and i + 1 of 3x3
    taps = jnp.pad(kernel, ((0, 4 - size), (0, 4 - size), (0, 0), (0, 0)))
    taps = taps.reshape(2, 2, 2, 2, channels, features)[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    x = conv(x, taps.reshape(2, 2, channels, 4 * features), 1, ((top, 1), (top, 1)))
    x = x.reshape(b, h + top, w + top, 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, 2 * (h + top), 2 * (w + top), features)
    return x[:, top : top + 2 * h, top : top + 2 * w]
