"""Makes the numbers that `d2c eval` is tested with: Frechet distances by scipy, principal components and nearest
neighbours by numpy.

    python make_eval.py FOLDER      (needs numpy and scipy)
"""
import os
import sys

import numpy as np
import scipy.linalg

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
rng = np.random.default_rng(11)


def frechet(mean1, cov1, mean2, cov2, regular):
    """tr sqrt(C1 C2) by scipy's matrix square root; by the eigenvalues of the product where that is singular."""
    if regular:
        root = np.trace(scipy.linalg.sqrtm(cov1 @ cov2)).real
    else:
        root = np.sqrt(np.clip(scipy.linalg.eigvals(cov1 @ cov2).real, 0, None)).sum()
    return ((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * root


def moments(x):
    return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))


def write(out, *arrays):
    for array in arrays:
        out.write(" ".join("%.17g" % v for v in np.asarray(array, dtype=np.float64).ravel()) + "\n")


cases = []
for width, n1, n2, regular in ((1, 20, 30, True), (5, 40, 40, True), (16, 200, 100, True), (12, 5, 200, False), (12, 4, 6, False)):
    scale = rng.uniform(0.1, 3, width)
    a = rng.normal(size=(n1, width)) * scale
    b = rng.normal(size=(n2, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    cases.append((*moments(a), *moments(b), regular))
mean, cov = moments(rng.normal(size=(50, 6)))
cases.append((mean, cov, mean, cov, True))
cases.append((mean, np.zeros((6, 6)), mean + 2, cov, False))
with open(os.path.join(folder, "frechet.txt"), "w") as out:
    for mean1, cov1, mean2, cov2, regular in cases:
        out.write("%d %.17g\n" % (len(mean1), frechet(mean1, cov1, mean2, cov2, regular)))
        write(out, mean1, cov1, mean2, cov2)


def spread(array, n):
    return array[[i * len(array) // n for i in range(n)]]


# Images with structure: a few random patterns mixed, plus noise.
patterns = rng.uniform(0, 90, (5, 6 * 7))
make = lambda count: np.clip(rng.uniform(0, 1, (count, 5)) @ patterns + rng.normal(0, 9, (count, 6 * 7)), 0, 255).astype(np.uint8)
train, real, samples = make(300), make(40), make(25)
samples[3] = train[17]
width, n = 8, 25
x = train / 255.0
centre = x.mean(0)
_, singular, vectors = np.linalg.svd(x - centre, full_matrices=False)
explained = (singular[:width] ** 2).sum() / (singular ** 2).sum()
features = lambda images: (images / 255.0 - centre) @ vectors[:width].T
distance = frechet(*moments(features(spread(samples, n))), *moments(features(spread(real, n))), True)
nearest = np.sqrt((((samples[:, None].astype(np.float64) - train[None]) / 255) ** 2).mean(-1)).min(1)
with open(os.path.join(folder, "images.txt"), "w") as out:
    out.write("%d %d %d %d %d %d\n" % (6, 7, len(train), len(real), len(samples), width))
    for images in (train, real, samples):
        out.write(images.tobytes().hex() + "\n")
    write(out, [explained, distance, np.median(nearest), nearest.mean()], nearest)
