"""Writes the seeds of the fuzz targets whose inputs are no files of a known format: golden/{tensor,selection,copy,protocol}/seeds.

    python make_seeds.py

Needs no packages.  The targets (test/fuzz/fuzz_*.c) say how they read an input.
"""
import os
import struct

here = os.path.dirname(os.path.abspath(__file__))
F32, BF16, U8, F16 = 0, 1, 3, 4


def write(target, name, data):
    folder = os.path.join(here, target, "seeds")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(data)


def binary_tensor(dtype, dims, data):
    """The binary form of the SQL type tensor."""
    return bytes([1, dtype, len(dims), 0]) + b"".join(struct.pack(">i", d) for d in dims) + data


def golden(*path):
    with open(os.path.join(here, *path), "rb") as file:
        return file.read()


# tensor: bit 0 of the first byte: binary; the other bits: the type's modifier
write("tensor", "text_f32", b"\x00[[1,2.5],[-3e4,nan]]")
write("tensor", "text_f16", b"\x00 f16:[[[1],[65504]],[[2],[inf]]]")
write("tensor", "text_bf16", b"\x08bf16:[1,-0,3.4e38]")
write("tensor", "text_u8", b"\x00u8:[[0,255],[1,2]]")
write("tensor", "text_deep", b"\x00[[[[[[[[1]]]]]]]]")
write("tensor", "binary_f32", b"\x01" + binary_tensor(F32, [2, 2], struct.pack("<4f", 1, 2, 3, 4)))
write("tensor", "binary_f16", b"\x09" + binary_tensor(F16, [3], struct.pack("<3e", 1, 2, 3)))
write("tensor", "binary_u8", b"\x01" + binary_tensor(U8, [1, 1, 1, 1, 1, 1, 1, 4], bytes(4)))
write("tensor", "binary_bf16", b"\x03" + binary_tensor(BF16, [2], bytes([0x80, 0x3F, 0, 0x40])))

# selection: bit 0 of the first byte: binary
write("selection", "interval", b"\x00interval bigint k=2 n=2 seed=0 {0.25:17,0.5:4,1:-3}")
write("selection", "text", b'\x00medium text k=1 n=2 seed=-1 {0.25:"a",0.5:"b\\"",1:""}')
write("selection", "uuid", b"\x00random uuid k=1 n=1 seed=9 {0.25:" + b"0f" * 16 + b"}")
write("selection", "ccs", b"\x00ccs bigint k=1 n=2 seed=7 cut=0.25 {0.5:17,0.75:18,3:1}")
write("selection", "ccs_wide", b"\x00ccs bigint k=1 n=3 seed=7 cut=0 {-1.7e308:17,0:18,1.7e308:1}")
write("selection", "medium_interval", b"\x00medium bigint k=2 n=3 seed=0 {1:1,2:2,3:3,4:4,5:5}")
for method in b"kcenter", b"herding", b"moderate":
    write("selection", method.decode(), b"\x00" + method + b" bigint k=1 n=2 seed=0 width=2 {[1,-2.5]:17,[0,0]:4,[1,1]:5}")
header = lambda kind, method, width, count: bytes([2, kind, method]) + struct.pack(">iiqdii", 1, 2, 0, 0, width, count)
write("selection", "binary", b"\x01" + header(1, 5, 0, 2) + struct.pack(">dqdq", 0.5, 1, 0.25, 2))
write("selection", "binary_text", b"\x01" + header(2, 5, 0, 1) + struct.pack(">di", 0.5, 2) + b"ab")
write("selection", "binary_feature", b"\x01" + header(1, 7, 1, 2) + struct.pack(">fqfq", 0.5, 1, 0.25, 2))


def field(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def copy(*rows):
    """Binary COPY data; the last byte of an input is the length of the pieces in which it comes."""
    data = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
    for row in rows:
        data += struct.pack(">h", len(row)) + b"".join(field(f) for f in row)
    return data + struct.pack(">h", -1)


# copy: id, label, image, text condition, mask, features, in the shape that fuzz_copy.c has
label = struct.pack(">q", 2)
text = binary_tensor(F32, [2, 2], struct.pack("<4f", 1, 2, 3, 4))
mask = binary_tensor(U8, [2], bytes([1, 0]))
visual = binary_tensor(F16, [2, 1], struct.pack("<2e", 1, 2))
image = golden("image", "grey.png")
write("copy", "one", copy([b"17", label, image, text, mask, visual]) + b"\x07")
write("copy", "two", copy([b"a", label, image, text, mask, visual], [b"b", label, image, None, None, None]) + b"\xff")
write("copy", "none", copy() + b"\x00")


def string(text):
    return struct.pack("=I", len(text)) + text


def frame(kind, payload):
    """A kind, the payload's length in eights, the payload, which is padded: most requests then end in junk."""
    eights = (len(payload) + 7) // 8
    return bytes([kind, eights]) + payload.ljust(8 * eights, b"\0")


def request(kind, payload):
    """The last frame of an input is as long as the input."""
    return bytes([kind, 255]) + payload


# protocol: requests of protocol.h
i64, u32, f64 = (lambda v: struct.pack("=q", v)), (lambda v: struct.pack("=I", v)), (lambda v: struct.pack("=d", v))
tiny = string(b"tiny-sit")
picture = string(image)
write("protocol", "difficulty", request(2, tiny + picture + i64(1) + u32(2) + i64(0) + u32(1) + string(b"")))
write("protocol", "prompt", request(22, string(b"prompt-sit") + picture + i64(0) + u32(2) + i64(0) + u32(1) + string(b"") +
                                    string(b"a photo of a cat") + string(b"")))
write("protocol", "info", request(4, picture))
write("protocol", "thumbnail", request(5, picture + u32(8)))
write("protocol", "phash", request(6, picture))
write("protocol", "sheet", request(7, u32(16) + u32(0) + u32(1) + picture + string(b"a caption")))
write("protocol", "text", request(8, string(b"tiny-bert") + string(b"a photo of a cat") + u32(8)))
write("protocol", "visual", request(9, tiny + picture + u32(2)))
moments = u32(1) + i64(2) + f64(0.5) + f64(1.0)
write("protocol", "frechet", request(11, moments + moments))
write("protocol", "latent", request(20, string(b"tiny-vae") + picture + u32(16)))
latent = u32(F32) + u32(3) + i64(4) + i64(2) + i64(2) + string(struct.pack("=16f", *range(16)))
write("protocol", "decode", request(21, string(b"tiny-vae") + latent))
write("protocol", "models", request(12, b""))
write("protocol", "provenance", request(15, tiny))
write("protocol", "several", frame(4, picture[:64]) + frame(12, b"") + request(15, tiny))
