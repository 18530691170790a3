#!/usr/bin/env python3
"""Makes the fixtures of test_objective from the public training codes of SiT, DiT and REPA.

usage: make_objective.py SIT_CHECKOUT DIT_CHECKOUT REPA_CHECKOUT OUTPUT_FOLDER

SIT_CHECKOUT   willisma/SiT         (models.py, transport/)
DIT_CHECKOUT   facebookresearch/DiT (models.py, diffusion/)
REPA_CHECKOUT  sihyun-yu/REPA       (models/sit.py, loss.py)

dit and repa are tiny networks with every weight random; NAME.golden has a batch with its times and noise, what the public
code makes of it, and every gradient of its loss.  schedule has DiT's tables.  times has what the public codes make of d2c's draws,
which take the place of torch's.  adam is torch's Adam.  sizes has the parameters of every public size of each kind.  Needs torch, timm, numpy, safetensors.
"""
import functools
import importlib.util
import math
import sys

import numpy as np
import torch
from safetensors.torch import save_file

sit_checkout, dit_checkout, repa_checkout, output = sys.argv[1:5]
sys.path[1:1] = [sit_checkout, dit_checkout]
torch.set_num_threads(1)


def module_at(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


from philox import TIME, normals, philox  # noqa: E402
from transport import create_transport  # noqa: E402
from diffusion import create_diffusion  # noqa: E402

sit_models = module_at("sit_models", sit_checkout + "/models.py")
dit_models = module_at("dit_models", dit_checkout + "/models.py")
repa_models = module_at("repa_models", repa_checkout + "/models/sit.py")
repa_loss = module_at("repa_loss", repa_checkout + "/loss.py")
# The public code was written for a timm whose Attention normalises with LayerNorm unless told otherwise.
repa_models.Attention = functools.partial(repa_models.Attention, norm_layer=torch.nn.LayerNorm)

SHAPE, CLASSES, BATCH = (2, 4, 4), 3, 4
COMMON = dict(input_size=4, patch_size=2, in_channels=2, hidden_size=16, depth=2, num_heads=2, num_classes=CLASSES)


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if name == "pos_embed":
            continue
        fan_in = p[0].numel() if p.dim() > 1 else 25
        p.data = torch.randn(p.shape, generator=generator) / math.sqrt(fan_in) * (0.5 if "adaLN" in name else 1.0)
        if "norm.weight" in name:
            p.data += 1
    return model.eval()


def save(name, tensors, metadata=None):
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, f"{output}/{name}.safetensors", metadata)


def gradients(model):
    return {"grad." + n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((BATCH, *SHAPE), generator=generator) * 2 - 1
    x[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])  # the first step's outermost bins
    return x, torch.randn((BATCH, *SHAPE), generator=generator), torch.tensor([1, CLASSES, 0, 2])


def make_dit():
    model = randomise(dit_models.DiT(**COMMON), 11)
    x, noise, y = batch(12)
    t = torch.tensor([0, 1, 400, 999])
    diffusion = create_diffusion("")
    terms = diffusion.training_losses(model, x, t, dict(y=y), noise=noise)
    terms["loss"].mean().backward()
    xt = diffusion.q_sample(x, t, noise)
    save("dit", model.state_dict())
    save("dit.golden", {"x": x, "noise": noise, "y": y, "t": t, "xt": xt, "out": model(xt, t, y), "loss": terms["loss"],
                        "bound": terms["vb"], **gradients(model)})


def make_repa():
    """Normalised queries and keys, and the projector."""
    model = randomise(repa_models.SiT(**COMMON, path_type="linear", decoder_hidden_size=16, encoder_depth=1, z_dims=[5],
                                      projector_dim=8, fused_attn=False, qk_norm=True), 21)
    x, noise, y = batch(22)
    t = torch.tensor([0.02, 0.3, 0.71, 0.97])
    features = torch.randn((BATCH, 4, 5), generator=torch.Generator().manual_seed(23)).half().float()
    golden = {"x": x, "noise": noise, "y": y, "t": t, "features": features}
    for path in ("cosine", "linear"):
        loss_fn = repa_loss.SILoss(path_type=path)
        alpha, sigma, _, _ = loss_fn.interpolant(t[:, None, None, None])
        denoise, align = with_draws(lambda: loss_fn(model, x, dict(y=y), [features]), t[:, None, None, None], noise)
        golden.update({path + ".xt": alpha * x + sigma * noise, path + ".loss": denoise})
    golden["out"], golden["align"] = model(golden["linear.xt"], t, y)[0], 0.5 * align
    (denoise.mean() + 0.5 * align.mean()).backward()
    save("repa", model.state_dict())
    save("repa.golden", {**golden, **gradients(model)})


def with_draws(function, times, noise):
    """function() with torch's draws replaced: the times by rand or randn, the noise by randn_like."""
    saved = torch.rand, torch.randn, torch.randn_like
    torch.rand = torch.randn = lambda *_, **__: times
    torch.randn_like = lambda *_, **__: noise
    try:
        return function()
    finally:
        torch.rand, torch.randn, torch.randn_like = saved


def make_schedule():
    diffusion = create_diffusion("")
    to32 = lambda a: torch.tensor(a, dtype=torch.float64).float()
    save("schedule", {"alpha": to32(diffusion.sqrt_alphas_cumprod), "sigma": to32(diffusion.sqrt_one_minus_alphas_cumprod),
                      "distance": to32(diffusion.posterior_mean_coef1 * diffusion.sqrt_recipm1_alphas_cumprod),
                      "least": to32(diffusion.posterior_log_variance_clipped), "greatest": to32(np.log(diffusion.betas))})


ROWS, EPOCH, SEED = [0, 7, 123456, 2**40 + 3, 91], 3, 2**33 + 17


def make_times():
    """Each kind's times of ROWS: the draws through the public code, which is given a network that tells its time."""
    words = [int(philox(SEED, 0, row, EPOCH * 256 + TIME)[0]) for row in ROWS]
    uniform = torch.tensor([(w >> 8) / 2**24 for w in words], dtype=torch.float32)
    normal = torch.tensor([normals(SEED, TIME, row, EPOCH, 1)[0] for row in ROWS])
    golden = {"rows": torch.tensor(ROWS), "dit": torch.tensor([w * 1000 >> 32 for w in words], dtype=torch.float32)}
    x = torch.zeros((len(ROWS), 1, 1, 1))
    told = []

    def network(xt, t, y=None):
        told.append(t)
        return xt, [torch.ones(len(ROWS), 1, 1)]

    for path in ("Linear", "GVP", "VP"):
        golden["sit." + path.lower()] = with_draws(lambda: create_transport(path, "velocity").sample(x)[0], uniform, x)
    for path, weighting, draw in (("linear", "uniform", uniform), ("cosine", "uniform", uniform),
                                  ("linear", "lognormal", normal), ("cosine", "lognormal", normal)):
        loss_fn = repa_loss.SILoss(path_type=path, weighting=weighting)
        with_draws(lambda: loss_fn(network, x, {}, [torch.ones(len(ROWS), 1, 1)]), draw[:, None, None, None], x)
        golden[f"repa.{path}.{weighting}"] = told[-1]
    save("times", golden)


def make_adam():
    generator = torch.Generator().manual_seed(31)
    value = torch.nn.Parameter(torch.randn(37, generator=generator))
    golden = {"start": value}
    golden = {k: v.detach().clone() for k, v in golden.items()}
    optimizer = torch.optim.Adam([value], lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
    for step in range(3):
        value.grad = torch.randn(37, generator=generator)
        golden[f"grad.{step}"] = value.grad.clone()
        torch.nn.utils.clip_grad_norm_([value], 1.0)
        optimizer.step()
        golden[f"value.{step}"] = value.detach().clone()
    save("adam", golden)


def make_sizes():
    """[S, B, L, XL] x [2, 4, 8]; REPA's S needs the width of its final layer said, and has no projector here."""
    hidden = dict(S=384, B=768, L=1024, XL=1152)
    golden = {"sit": [], "dit": [], "repa": []}
    with torch.device("meta"):
        for size in hidden:
            for patch in (2, 4, 8):
                golden["sit"].append(sit_models.SiT_models[f"SiT-{size}/{patch}"]())
                golden["dit"].append(dit_models.DiT_models[f"DiT-{size}/{patch}"]())
                more = dict(decoder_hidden_size=hidden[size]) if size == "S" else {}
                golden["repa"].append(repa_models.SiT_models[f"SiT-{size}/{patch}"](z_dims=[], use_cfg=True, qk_norm=True, **more))
    save("sizes", {kind: torch.tensor([sum(p.numel() for p in m.parameters()) for m in models])
                   for kind, models in golden.items()})


make_dit()
make_repa()
make_schedule()
make_times()
make_adam()
make_sizes()
