"""PNG files of 16-bit colour, or of 16-bit grey with alpha, which Pillow would silently reduce to 8 bits."""

import struct
import zlib

import numpy as np

from genjax.data.imports import optional_module

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of samples
_UP = 2  # the filter that stores differences between rows


def decode(encoded: bytes) -> np.ndarray:
    """Decodes to uint16 [h, w, 2 to 4], a transparent colour as alpha; ValueError if imagecodecs is missing."""
    codecs = optional_module("imagecodecs", "16-bit colour, and 16-bit grey with alpha,", "imagecodecs tifffile")
    planes: np.ndarray = codecs.png_decode(encoded)
    return planes


def encode(planes: np.ndarray, icc: bytes | None) -> bytes:
    """Encodes uint16 [h, w, 1 to 4]; the last of 2 or 4 is alpha."""
    height, width, num = planes.shape
    rows = planes.astype(">u2").view(np.uint8).reshape(height, -1)
    differences = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))  # modulo 256
    filtered = np.concatenate([np.full((height, 1), _UP, np.uint8), differences], 1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[num], 0, 0, 0))]
    if icc is not None:  # its name, 0, the method 0, and the profile in zlib's format
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
