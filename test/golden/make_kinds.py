#!/usr/bin/env python3
"""Makes the fixtures of test_kinds from the public codes of DiT and REPA.

usage: make_kinds.py DIT_CHECKOUT REPA_CHECKOUT OUTPUT_FOLDER

DIT_CHECKOUT   facebookresearch/DiT  (models.py, diffusion/)
REPA_CHECKOUT  sihyun-yu/REPA        (models/sit.py, samplers.py)

DiT-tiny.pt and checkpoint.pt are smaller ones as the public codes write them: a flat dict under an official name, and a
training checkpoint of REPA, whose average is to be used.

For each tiny network NAME.safetensors holds its weights under the public names, without metadata as the public files
are, with every weight random; NAME.golden.safetensors inputs and what the public code makes of them.  Scores are
computed here from their definition.  Needs torch, timm, numpy, safetensors.
"""
import argparse
import functools
import importlib.util
import math
import sys

import numpy as np
import torch
from safetensors.torch import save_file

dit_checkout, repa_checkout, output = sys.argv[1:4]
sys.path.insert(0, dit_checkout)
torch.set_num_threads(1)


def module_at(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


from philox import ENCODE, SAMPLE, SCORE, SDE, images  # noqa: E402

dit_models = module_at("dit_models", dit_checkout + "/models.py")
repa_models = module_at("repa_models", repa_checkout + "/models/sit.py")
repa_samplers = module_at("repa_samplers", repa_checkout + "/samplers.py")
from diffusion import create_diffusion  # noqa: E402

# The public code was written for a timm whose Attention normalises with LayerNorm unless told otherwise.
repa_models.Attention = functools.partial(repa_models.Attention, norm_layer=torch.nn.LayerNorm)

SEEDS = [5, 2**40 + 3]
LABELS = torch.tensor([1, 2])


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


def save(name, tensors):
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, f"{output}/{name}.safetensors")


def random_images(seed, count, shape, scale):
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed)) * scale


def tokens_of(block, run):
    """What a block gives while run() runs."""
    caught = []
    handle = block.register_forward_hook(lambda module, args, result: caught.append(result))
    run()
    handle.remove()
    return caught[0][0]


# ---- DiT -----------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def dit_golden(model, shape, classes):
    x = random_images(41, 4, shape, 0.7)
    t, y = torch.tensor([0, 17, 500, 999]), torch.tensor([1, classes, 0, 2])
    golden = {"x": x, "t": t, "y": y, "out": model(x, t, y)}
    golden.update(dit_scores(model, x, shape))
    abar = create_diffusion("").alphas_cumprod
    light = int(np.argmin(np.abs(np.log(np.sqrt(abar) / np.sqrt(1 - abar)) - math.log(9))))
    xt = math.sqrt(abar[light]) * x[:1] + math.sqrt(1 - abar[light]) * images(0, ENCODE, [0], 0, shape)
    golden["tokens"] = tokens_of(model.blocks[0], lambda: model(xt, torch.tensor([light]), torch.tensor([classes])))
    for name, steps, scale in (("plain", 10, 1.0), ("guided", 10, 2.5), ("few", 3, 1.0)):
        golden["sample." + name] = dit_sample(model, shape, classes, steps, scale)
    return golden


def dit_scores(model, x, shape, label=2, seed=7):
    """The error of the noise at steps floor((i + 1/2) 1000/T), from the schedule's definition."""
    golden = {}
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for count in (4, 20):
        t = torch.tensor([int((i + 0.5) * 1000 / count) for i in range(count)])
        a = torch.from_numpy(abar)[t].reshape(-1, 1, 1, 1)
        noise = images(seed, SCORE, range(count), 0, shape)
        xt = (a.sqrt() * x[:1] + (1 - a).sqrt() * noise).float()
        out = model(xt, t, torch.full((count,), label))
        golden[f"difficulty.{count}"] = ((noise - out[:, :shape[0]]).double() ** 2).mean(dim=(1, 2, 3))
    return golden


def dit_sample(model, shape, classes, steps, scale):
    """The public loop, its torch.randn_like replaced by d2c's noise of each step."""
    start = images(0, SAMPLE, SEEDS, 0, shape)
    step, original = iter(range(steps)), torch.randn_like
    copies = 2 if scale != 1 else 1
    y = torch.cat([LABELS, torch.full((2,), classes)])[:2 * copies]
    torch.randn_like = lambda x: torch.cat([images(0, SDE, SEEDS, next(step), shape)] * copies)
    function, arguments = (model.forward_with_cfg, dict(y=y, cfg_scale=scale)) if scale != 1 else (model, dict(y=y))
    try:
        z = torch.cat([start] * copies)
        return create_diffusion(str(steps)).p_sample_loop(function, z.shape, z, clip_denoised=False,
                                                          model_kwargs=arguments, device="cpu")[:2]
    finally:
        torch.randn_like = original


def make_dit():
    classes, shape = 5, (4, 8, 8)
    model = dit_models.DiT(input_size=8, patch_size=2, in_channels=4, hidden_size=32, depth=3, num_heads=2,
                           num_classes=classes)
    randomise(model, 51)
    save("dit", model.state_dict())
    save("dit.golden", dit_golden(model, shape, classes))


# ---- REPA ----------------------------------------------------------------------------------------------------------------


def path_of(kind, t):
    if kind == "linear":
        return 1 - t, t, -torch.ones_like(t), torch.ones_like(t)
    half = math.pi / 2
    return torch.cos(half * t), torch.sin(half * t), -half * torch.sin(half * t), half * torch.cos(half * t)


def repa_scores(model, x, shape, label=2, seed=7):
    """(alpha/(alpha' sigma - alpha sigma'))^2 times the velocity's error, in REPA's own time; for the linear path a third
    of the error at times whose density makes up for the factor."""
    golden = {}
    for kind, count in (("linear", 4), ("linear", 20), ("cosine", 4)):
        u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        t = 1 - (u ** (1 / 3) if kind == "linear" else u)
        alpha, sigma, dalpha, dsigma = (c.reshape(-1, 1, 1, 1) for c in path_of(kind, t))
        noise = images(seed, SCORE, range(count), 0, shape)
        xt, target = (alpha * x[:1] + sigma * noise).float(), dalpha * x[:1] + dsigma * noise
        v, _ = model(xt, t.float(), torch.full((count,), label))
        error = ((v - target) ** 2).mean(dim=(1, 2, 3))
        factor = (alpha / (dalpha * sigma - alpha * dsigma)).flatten() ** 2
        golden[f"difficulty.{kind}.{count}"] = error / 3 if kind == "linear" else error * factor
    return golden


class Null1000(torch.nn.Module):
    """The public samplers call the null class 1000, as it is with ImageNet."""

    def __init__(self, model, classes):
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x, t, y):
        return self.model(x, t, torch.where(y == 1000, self.classes, y))


def repa_sample(model, shape, function, steps, **more):
    start = images(0, SAMPLE, SEEDS, 0, shape)
    step, original = iter(range(steps)), torch.randn_like
    torch.randn_like = lambda x: images(0, SDE, SEEDS, next(step), shape).double()
    try:
        return function(model, start, LABELS, num_steps=steps, **more)
    finally:
        torch.randn_like = original


@torch.no_grad()
def repa_golden(model, shape, classes):
    x = random_images(61, 4, shape, 0.7)
    t, y = torch.tensor([0.0, 0.11, 0.48, 1.0]), torch.tensor([1, classes, 0, 2])
    out, (projected,) = model(x, t, y)
    golden = {"x": x, "t": t, "y": y, "out": out, "projected": projected}
    golden.update(repa_scores(model, x, shape))
    xt = 0.9 * x[:1] + 0.1 * images(0, ENCODE, [0], 0, shape)
    golden["tokens"] = tokens_of(model.blocks[0], lambda: model(xt, torch.tensor([0.1]), torch.tensor([classes])))
    wrapped = Null1000(model, classes)
    ode, sde = repa_samplers.euler_sampler, repa_samplers.euler_maruyama_sampler
    cases = {
        "euler": (ode, 5, {}),
        "heun": (ode, 5, dict(heun=True)),
        "sde": (sde, 6, {}),
        "sde.cosine": (sde, 6, dict(path_type="cosine")),
        # the ends are times of the grid, 0.8 and 0.4 of five steps: guidance at both
        "guided.euler": (ode, 5, dict(cfg_scale=2.5, guidance_low=0.4, guidance_high=0.8)),
        # 0.6 is within, 0.4 is not, and yet the second stage from 0.6 to 0.4 is guided
        "guided.heun": (ode, 5, dict(heun=True, cfg_scale=2.5, guidance_low=0.5, guidance_high=0.7)),
        "guided.sde": (sde, 6, dict(cfg_scale=1.8, guidance_low=0.0, guidance_high=0.7)),
    }
    for name, (function, steps, more) in cases.items():
        golden["sample." + name] = repa_sample(wrapped, shape, function, steps, **more).float()
    return golden


def make_repa(name, seed, qk_norm, hidden, heads):
    classes, shape = 5, (4, 8, 8)
    model = repa_models.SiT(path_type="linear", input_size=8, patch_size=2, in_channels=4, hidden_size=hidden,
                            decoder_hidden_size=hidden, encoder_depth=1, depth=3, num_heads=heads, num_classes=classes,
                            z_dims=[10], projector_dim=16, fused_attn=False, qk_norm=qk_norm)
    randomise(model, seed)
    save(name, model.state_dict())
    save(name + ".golden", repa_golden(model, shape, classes))


@torch.no_grad()
def make_files():
    x, t = random_images(91, 1, (2, 4, 4), 0.7), 17
    model = dit_models.DiT(input_size=4, patch_size=2, in_channels=2, hidden_size=8, depth=1, num_heads=2, num_classes=3)
    randomise(model, 92)
    golden = {"x": x, "dit": model(x, torch.tensor([t]), torch.tensor([1]))}
    torch.save(model.state_dict(), f"{output}/DiT-tiny.pt")
    live, average = (randomise(repa_models.SiT(
        path_type="linear", input_size=4, patch_size=2, in_channels=2, hidden_size=8, decoder_hidden_size=8,
        encoder_depth=1, depth=1, num_heads=2, num_classes=3, z_dims=[4], projector_dim=6, fused_attn=False,
        qk_norm=False), seed) for seed in (93, 94))
    golden["repa"] = average(x, torch.tensor([0.25]), torch.tensor([1]))[0]
    torch.save({"model": live.state_dict(), "ema": average.state_dict(), "opt": {"state": {}, "param_groups": []},
                "args": argparse.Namespace(model="SiT-XL/2", qk_norm=False), "steps": 3}, f"{output}/checkpoint.pt")
    for name in ("DiT-tiny", "checkpoint"):
        with open(f"{output}/{name}.json", "w") as file:
            file.write('{"heads": 2}\n')
    save("files.golden", golden)


make_dit()
make_files()
make_repa("repa", 71, False, 32, 2)
make_repa("repa-qk", 81, True, 24, 3)
