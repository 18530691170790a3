"""Makes the images that the decoders are tested with, and what PIL, scipy and imagehash say of them.

    python make_image.py FOLDER      (needs Pillow 12, numpy, scipy and imagehash)

Pillow 13 resizes rows first where columns are enlarged and rows reduced; every version before it does columns first, as
all published work on these networks had it, and so does d2c.

FOLDER gets the image files and expected.txt, one fact a line; pixels are compared by their CRC-32.
"""
import io
import os
import struct
import sys
import zlib

import imagehash
import numpy as np
from PIL import Image

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
facts = []
rng = np.random.default_rng(7)


def picture(width, height, channels):
    """Smooth shapes with some noise, so that every coder has something to do."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for c in range(channels):
        wave = np.sin(x / (3 + c) + c) + np.cos(y / (4 + c)) + ((x - width / 2) ** 2 + (y - height / 3) ** 2 < 90)
        planes.append(np.clip(110 + 45 * wave + rng.normal(0, 6, (height, width)), 0, 255))
    return np.stack(planes, -1).round().astype(np.uint8)


def crc(array):
    return "%08x" % zlib.crc32(np.ascontiguousarray(array).tobytes())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, depth, colour, rows, interlace=0, extra=b""):
    """A PNG of any depth; rows are packed bytes, filter 0."""
    body = b"".join(b"\0" + bytes(row) for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
            + extra + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b""))


def adam7_png(array):
    """8-bit, interlaced, which PIL reads and does not write."""
    height, width, channels = array.shape
    rows = []
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        part = array[y0::dy, x0::dx]
        if part.size:
            rows += [row.tobytes() for row in part]
    return raw_png(width, height, 8, {1: 0, 3: 2}[channels], rows, 1)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def add(name, data, stored, pixels=None):
    """One file and its decoding to RGB and grey; `pixels`: what the file was made of, where PIL reads it otherwise."""
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)
    image = Image.open(io.BytesIO(data)) if pixels is None else Image.fromarray(pixels)
    rgb, grey = np.asarray(image.convert("RGB")), np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB").convert("L"))
    facts.append(f"decode {name} {image.width} {image.height} {stored} {crc(rgb)} {crc(grey)}")


rgb, grey = picture(37, 29, 3), picture(23, 31, 1)[..., 0]
alpha = picture(37, 29, 1)
add("rgb.png", saved(Image.fromarray(rgb), "PNG"), 3)
add("grey.png", saved(Image.fromarray(grey), "PNG"), 1)
add("rgba.png", saved(Image.fromarray(np.concatenate([rgb, alpha], -1)), "PNG"), 4)
add("grey-alpha.png", saved(Image.fromarray(np.stack([grey, grey.T.reshape(grey.shape)], -1)), "PNG"), 2)
palette = Image.fromarray(rgb).quantize(13)
add("palette.png", saved(palette, "PNG"), 3)
add("palette-alpha.png", saved(palette, "PNG", transparency=bytes(range(0, 130, 10))), 4)
for depth in (1, 2, 4):
    levels = (grey >> (8 - depth)).astype(np.uint8)
    bits = np.unpackbits(levels[..., None], axis=-1)[..., 8 - depth:].reshape(levels.shape[0], -1)
    add(f"grey{depth}.png", raw_png(23, 31, depth, 0, np.packbits(bits, axis=-1)), 1,
        (levels.astype(np.uint16) * 255 // (2 ** depth - 1)).astype(np.uint8))
deep = rng.integers(0, 65536, (9, 11, 3)).astype(">u2")
add("rgb16.png", raw_png(11, 9, 16, 2, [row.tobytes() for row in deep]), 3, (deep >> 8).astype(np.uint8))
add("grey16.png", raw_png(11, 9, 16, 0, [row.tobytes() for row in deep[..., 0]]), 1, (deep[..., 0] >> 8).astype(np.uint8))
add("interlaced.png", adam7_png(rgb), 3)
add("interlaced-grey.png", adam7_png(grey[..., None]), 1)
add("rgb-key.png", raw_png(37, 29, 8, 2, [row.tobytes() for row in rgb], 0, chunk(b"tRNS", struct.pack(">HHH", *rgb[0, 0]))), 3)
add("one-pixel.png", saved(Image.fromarray(rgb[:1, :1]), "PNG"), 3)
add("444.jpg", saved(Image.fromarray(rgb), "JPEG", quality=90, subsampling=0), 3)
add("420.jpg", saved(Image.fromarray(rgb), "JPEG", quality=80, subsampling=2), 3)
add("422.jpg", saved(Image.fromarray(rgb), "JPEG", quality=80, subsampling=1), 3)
add("progressive.jpg", saved(Image.fromarray(rgb), "JPEG", quality=85, progressive=True), 3)
add("grey.jpg", saved(Image.fromarray(grey), "JPEG", quality=85), 1)
add("cmyk.jpg", saved(Image.fromarray(picture(19, 17, 4), "CMYK"), "JPEG", quality=95), 4)
add("lossless.webp", saved(Image.fromarray(rgb), "WEBP", lossless=True), 3)
add("alpha.webp", saved(Image.fromarray(np.concatenate([rgb, alpha | 1], -1)), "WEBP", lossless=True, exact=True), 4)
add("lossy.webp", saved(Image.fromarray(rgb), "WEBP", quality=80), 3)

large = Image.fromarray(picture(150, 101, 3))
with open(os.path.join(folder, "large.png"), "wb") as f:
    f.write(saved(large, "PNG"))
filters = {"box": Image.BOX, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
for name in ("rgb.png", "grey.png", "large.png"):
    image = Image.open(os.path.join(folder, name))
    for word, number in filters.items():
        for size in ((8, 8), (28, 28), (61, 17), (image.width, 40), (50, image.height), (image.width, image.height), (131, 200), (1, 1)):
            facts.append(f"resize {name} {word} {size[0]} {size[1]} {crc(np.asarray(image.resize(size, number)))}")


def adm_crop(image, size):
    """The published procedure: halve by BOX, one BICUBIC resize, crop the centre."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(side // 2 for side in image.size), resample=Image.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(side * scale) for side in image.size), resample=Image.BICUBIC)
    array = np.array(image)
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[top: top + size, left: left + size]


for name in ("rgb.png", "grey.png", "large.png"):
    image = Image.open(os.path.join(folder, name))
    for size in (1, 5, 7, 8, 16, 23, 28, 29, 32, 50, 64, 101, 130):
        facts.append(f"adm {name} {size} {crc(adm_crop(image, size))}")
    facts.append(f"phash {name} {imagehash.phash(image)}")
flat = Image.new("L", (40, 40), 77)
facts.append(f"phash-flat {imagehash.phash(flat)}")
# Lines whose weights d2c does not hold all at once.
line = (np.arange(400000, dtype=np.int64) ** 2 // 97 % 251).astype(np.uint8)
for word in ("bilinear", "bicubic", "lanczos"):
    across = Image.fromarray(line[None, :]).resize((3000, 1), filters[word])
    down = Image.fromarray(line[:, None]).resize((1, 3000), filters[word])
    facts.append(f"line {word} {crc(np.asarray(across))} {crc(np.asarray(down))}")

with open(os.path.join(folder, "expected.txt"), "w") as f:
    f.write("\n".join(facts) + "\n")
