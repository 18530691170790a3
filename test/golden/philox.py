"""Philox4x32-10 with d2c's counters, and Box-Muller; in numpy, so that it shares nothing with the C code."""
import math

import numpy as np
import torch

TIME, NOISE, LABEL_DROP, SCORE, SAMPLE, SDE, ENCODE = 1, 2, 3, 6, 7, 8, 10


def philox(seed, block, row, stream):
    c = [np.uint64(v) for v in (block, row & 0xFFFFFFFF, row >> 32, stream)]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def normals(seed, purpose, row, epoch, count):
    out = []
    for block in range((count + 3) // 4):
        w = [int(v) for v in philox(seed, block, row, epoch * 256 + purpose)]
        for u, v in ((w[0], w[1]), (w[2], w[3])):
            radius = math.sqrt(-2 * math.log(((u >> 8) + 1) / 2**24))
            angle = 2 * math.pi * ((v >> 8) / 2**24)
            out += [radius * math.cos(angle), radius * math.sin(angle)]
    return torch.tensor(out[:count], dtype=torch.float32)


def images(seed, purpose, rows, epoch, shape):
    return torch.stack([normals(seed, purpose, r, epoch, math.prod(shape)).reshape(shape) for r in rows])
