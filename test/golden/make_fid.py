"""Writes what public evaluators make of random features: FID, Inception Score, precision and recall.

    PYTHONPATH=pytorch-fid/src python make_fid.py

Needs numpy, scipy, torch, torchvision, safetensors, pytorch-fid and torch-fidelity.  Writes eval/fid.safetensors: the
features and logits, and in float64 `distances`: pytorch-fid's Frechet distance (by scipy's sqrtm) and torch-fidelity's
(by eigenvalues); `scores`: the Inception Score of all in one part and in four parts by torch-fidelity, and in parts of 50
of which the last is shorter, by the formula of ADM's evaluator; `shares`: precision and recall by torch-fidelity in
double precision.  Some vectors occur twice, and the sets share some.
"""
import os

import numpy as np
import scipy.linalg
import torch
from pytorch_fid import fid_score
from safetensors.torch import save_file
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(5)
width, classes = 24, 10

plain_sqrtm = scipy.linalg.sqrtm
fid_score.linalg.sqrtm = lambda a, disp=True: (plain_sqrtm(a), 0.0) if not disp else plain_sqrtm(a)

mix = rng.normal(size=(width, width)) / 5
real = np.abs(rng.normal(size=(220, width)) @ mix + 1).astype(np.float32)
samples = np.abs(rng.normal(size=(170, width)) @ mix * 0.8 + 1.2).astype(np.float32)
samples[10:13] = samples[9]  # four of one vector: its ball is the vector alone
samples[20] = real[30]
real[40:43] = real[39]
samples[50] = real[40]
logits = (rng.normal(size=(170, classes)) * 3).astype(np.float32)


def moments(x):
    return x.mean(0), np.cov(x, rowvar=False)


wide = lambda x: x.astype(np.float64)
by_sqrtm = fid_score.calculate_frechet_distance(*moments(wide(samples)), *moments(wide(real)))
by_eigenvalues = fid_statistics_to_metric(*(fid_features_to_statistics(torch.from_numpy(wide(x))) for x in (samples, real)), False)[
    "frechet_inception_distance"]


def adm_score(preds, split):
    scores = []
    for i in range(0, len(preds), split):
        part = preds[i : i + split]
        divergence = (part * (np.log(part) - np.log(part.mean(0, keepdims=True)))).sum(1).mean()
        scores.append(np.exp(divergence))
    return np.mean(scores)


public_score = lambda splits, count: isc_features_to_metric(torch.from_numpy(logits[:count]), splits, shuffle=False)["inception_score_mean"]
p = torch.from_numpy(wide(logits)).softmax(1).numpy()
scores = [public_score(1, 170), public_score(4, 168), adm_score(p, 50)]
assert abs(adm_score(p[:168], 42) - scores[1]) < 1e-12

# torch.cdist by products would hide which distances are equal.
torch_cdist = torch.cdist
torch.cdist = lambda a, b: torch_cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
shares = calculate_precision_recall_full(torch.from_numpy(wide(samples)), torch.from_numpy(wide(real)))

print(by_sqrtm, by_eigenvalues, scores, shares)
double = lambda values: torch.tensor(values, dtype=torch.float64)
mean, covariance = moments(wide(real))
save_file({"real": torch.from_numpy(real), "samples": torch.from_numpy(samples), "logits": torch.from_numpy(logits),
           "distances": double([by_sqrtm, by_eigenvalues]), "scores": double(scores), "shares": double(shares),
           "mean": torch.from_numpy(mean), "covariance": torch.from_numpy(covariance).contiguous()},
          os.path.join(here, "eval", "fid.safetensors"))
