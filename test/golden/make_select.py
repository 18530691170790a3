#!/usr/bin/env python3
"""Selections by features, from their public definitions and by nothing but NumPy, for sql/test_select_family.sql.

K-center greedy (Sener and Savarese 2018; starts at the row farthest from the mean), herding (Welling 2009), moderate
(Xia et al. 2023, by the median of each element), coverage-centric selection (Zheng et al. 2023, 50 strata of the score,
within them d2c's hash of seed and id), and the transport and moments of d2c_select_gadc: every objective is
computed anew from its definition, and for groups of ten rows all sets of three are tried.  Prints VALUES lists.
"""
import itertools

import numpy as np

IDS = np.arange(1, 301)
POINTS = np.stack([np.sin(IDS * (d * d + 1.7) + d).astype(np.float32).astype(np.float64) * d for d in range(1, 6)], 1)
POINTS = POINTS.astype(np.float32).astype(np.float64)


def kcenter(x, n):
    picked = [int(np.argmax(((x - x.mean(0)) ** 2).sum(1)))]
    while len(picked) < n:
        away = ((x[:, None] - x[picked][None]) ** 2).sum(2).min(1)
        away[picked] = -1
        picked.append(int(np.argmax(away)))
    return picked


def herding(x, n):
    picked = []
    while len(picked) < n:
        goal = (len(picked) + 1) * x.mean(0) - x[picked].sum(0)
        away = ((x - goal) ** 2).sum(1)
        away[picked] = np.inf
        picked.append(int(np.argmin(away)))
    return picked


def moderate(x, n):
    order = np.argsort(((x - np.median(x, 0)) ** 2).sum(1), kind="stable")
    first = (len(x) - n) // 2
    return order[first:first + n].tolist()


def objective(x, picked):
    s = x[list(picked)]
    transport = ((x[:, None] - s[None]) ** 2).sum(2).min(1).mean()
    return transport + 1.25 * ((s.mean(0) - x.mean(0)) ** 2).sum() + ((s.std(0) - x.std(0)) ** 2).sum()


def gadc(x, n):
    sets = [search(x, n, first) for first in [[]] + [[i] for i in kcenter(x, 3)]]
    values = [objective(x, s) for s in sets]
    return sets[next(i for i, v in enumerate(values) if v <= min(values) * (1 + 1e-12))]


def search(x, n, first):
    picked = list(first)
    while len(picked) < n:
        free = [i for i in range(len(x)) if i not in picked]
        picked.append(min(free, key=lambda i: objective(x, picked + [i])))
    for _ in range(10):
        before = list(picked)
        for slot in range(n):
            sets = [picked[:slot] + [i] + picked[slot + 1:] for i in range(len(x)) if i not in picked]
            best = min(sets, key=lambda s: objective(x, s))
            if objective(x, best) < objective(x, picked) * (1 - 1e-12):
                picked = best
        if picked == before:
            break
    return picked


def mix(x):
    """SplitMix64's finalizer."""
    mask = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def ccs(ids, scores, n, cut, seed):
    order = np.argsort(scores, kind="stable")[:len(scores) - int(cut * len(scores))]
    ids, scores = ids[order], scores[order]
    edges = scores[0] + (scores[-1] - scores[0]) * np.arange(1, 50) / 50
    strata = [ids[np.searchsorted(edges, scores, side="right") == s] for s in range(50)]
    picked, rest = [], n
    for place, rows in enumerate(sorted(strata, key=len)):
        share = min(len(rows), rest // (50 - place))
        picked += sorted(rows.tolist(), key=lambda i: mix(i ^ mix(seed)) >> 11)[:share]
        rest -= share
    return sorted(picked)


def show(rows):
    print(",\n".join("\t('%s', %d, '{%s}'::bigint[])" % (name, group, ",".join(map(str, ids))) for name, group, ids in rows))


rows = []
for name in ("kcenter", "herding", "moderate", "gadc"):
    for group in (0, 1):
        mine = IDS % 2 == group
        rows.append((name, group, IDS[mine][globals()[name](POINTS[mine], 8)]))
scores = np.sqrt((IDS * 7919 % 1009).astype(np.float64))
for group in (0, 1):
    mine = IDS % 2 == group
    rows.append(("ccs", group, ccs(IDS[mine], scores[mine], 60, 0.1, 7)))
show(rows)

best, ratios = [], []
for group in range(30):
    mine = slice(10 * group, 10 * group + 10)
    x = POINTS[mine]
    optimum = min(itertools.combinations(range(10), 3), key=lambda s: objective(x, s))
    best.append(("optimum", group, IDS[mine][list(optimum)]))
    ratios.append(objective(x, gadc(x, 3)) / objective(x, optimum))
show(best)
print("-- optimal in %d of 30 groups; the worst objective is %.4f times the optimum" % (sum(r < 1 + 1e-9 for r in ratios), max(ratios)))
