#!/usr/bin/env python3
"""Makes the fixtures of test_sit, test_difficulty and test_sampler from the public SiT code.

usage: make_sit.py SIT_CHECKOUT REPA_CHECKOUT OUTPUT_FOLDER

SIT_CHECKOUT   willisma/SiT     (models.py, transport/)
REPA_CHECKOUT  sihyun-yu/REPA   (models/sit.py: the projector)

For each tiny network NAME.safetensors holds its weights under the public names, with every weight random (the public
initialisation has zeros that hide most gradients), and NAME.golden.safetensors inputs and what the public code makes
of them.  Needs torch, timm, torchdiffeq, numpy, safetensors.
"""
import importlib.util
import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

sit_checkout, repa_checkout, output = sys.argv[1:4]
sys.path.insert(0, sit_checkout)

import models  # noqa: E402  (the public SiT's)
from transport import Sampler, create_transport  # noqa: E402


def module_at(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- Philox4x32-10 with d2c's counters, and Box-Muller; in numpy, so that it shares nothing with the C code ----------

SCORE, SAMPLE, SDE, ENCODE = 6, 7, 8, 10


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


# ---- the networks ------------------------------------------------------------------------------------------------------


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if name == "pos_embed":
            continue
        fan_in = p[0].numel() if p.dim() > 1 else 25
        p.data = torch.randn(p.shape, generator=generator) / math.sqrt(fan_in) * (0.5 if "adaLN" in name else 1.0)
    return model.eval()


def description(model, size, classes, path="linear", **more):
    p = model.x_embedder.patch_size[0]
    text = dict(depth=len(model.blocks), hidden=model.pos_embed.shape[2], heads=model.num_heads, patch=p,
                channels=model.in_channels, out_channels=model.out_channels, height=size, width=size, classes=classes,
                null_class=1, path=path, text_tokens=0, text_width=0, proj_block=0, proj_hidden=0, proj_width=0)
    text.update(more)
    return json.dumps(text, sort_keys=True)


def save(name, tensors, metadata=None):
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    save_file(tensors, f"{output}/{name}.safetensors", metadata=metadata)


def plain_gradients(model, rename=lambda name: name):
    return {"grad." + rename(n): p.grad for n, p in model.named_parameters() if p.grad is not None}


def public_loss(model, path, x1, x0, t, y):
    """transport.training_losses with time and noise given instead of drawn."""
    transport = create_transport(path, "velocity")
    transport.sample = lambda _: (t, x0, x1)
    return transport, transport.training_losses(model, x1, dict(y=y))


def batch_of(shape, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    x1 = torch.randn((3, *shape), generator=generator) * 0.5
    x0 = torch.randn((3, *shape), generator=generator)
    return x1, x0, torch.tensor([0.11, 0.48, 0.93]), torch.tensor([1, classes, 0])


def training_golden(model, shape, classes, seed):
    """Output, loss and every gradient on the linear path; targets and losses on the others."""
    x1, x0, t, y = batch_of(shape, classes, seed)
    golden = {"x1": x1, "x0": x0, "t": t, "y": y}
    for path in ("GVP", "VP", "Linear"):
        model.zero_grad()
        transport, terms = public_loss(model, path, x1, x0, t, y)
        _, xt, target = transport.path_sampler.plan(t, x0, x1)
        key = path.lower()
        golden.update({key + ".xt": xt, key + ".target": target, key + ".out": terms["pred"], key + ".loss": terms["loss"]})
    terms["loss"].mean().backward()
    golden.update(plain_gradients(model))
    return golden


# ---- sampling ------------------------------------------------------------------------------------------------------------

SEEDS = [5, 2**40 + 3]


@torch.no_grad()
def sampling_golden(model, shape, classes):
    labels = torch.tensor([1, 2])
    start = images(0, SAMPLE, SEEDS, 0, shape)
    sampler = Sampler(create_transport("Linear", "velocity"))
    golden = {"sample.labels": labels}
    for name, method in (("euler", "euler"), ("heun", "heun2")):
        golden["sample." + name] = sampler.sample_ode(sampling_method=method, num_steps=5)(start, model, y=labels)[-1]
    both, y = torch.cat([start, start]), torch.cat([labels, torch.full((2,), classes)])
    guided = sampler.sample_ode(sampling_method="euler", num_steps=5)
    golden["sample.guided"] = guided(both, model.forward_with_cfg, y=y, cfg_scale=2.5)[-1][:2]
    golden["sample.interval"] = guided_heun(model, start, labels, classes, 4, 2.5, 0.3, 0.8)
    for path in ("Linear", "GVP", "VP"):
        golden["sample.sde." + path.lower()] = sde(model, path, start, labels, shape)
    golden["sample.vp"] = Sampler(create_transport("VP", "velocity")).sample_ode(
        sampling_method="euler", num_steps=5)(start, model, y=labels)[-1]
    return golden


def guided_heun(model, x, y, classes, steps, scale, low, high):
    """All channels, inside an interval of t; the public SiT code has no interval."""
    def v(x, t):
        times = torch.full((len(x),), t)
        if not low <= t <= high:
            return model(x, times, y)
        null = model(x, times, torch.full_like(y, classes))
        return null + scale * (model(x, times, y) - null)
    for i in range(steps):
        first = v(x, i / steps)
        x = x + (first + v(x + first / steps, (i + 1) / steps)) / (2 * steps)
    return x


def sde(model, path, start, labels, shape):
    """The public sampler, its torch.randn replaced by d2c's noise of each step."""
    step, original = iter(range(100)), torch.randn
    torch.randn = lambda *_: images(0, SDE, SEEDS, next(step), shape)
    try:
        sample = Sampler(create_transport(path, "velocity")).sample_sde(
            sampling_method="Euler", diffusion_form="sigma", diffusion_norm=1.0, last_step="Mean", last_step_size=0.04,
            num_steps=6)
        return sample(start, model, y=labels)[-1]
    finally:
        torch.randn = original


# ---- difficulty ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def difficulty_golden(model, x1, shape, label=2, seed=7):
    """The score of x1[0] on each path, and a third of the velocity's error for the linear one."""
    golden = {}
    for path, steps in (("Linear", 4), ("Linear", 20), ("GVP", 4), ("VP", 4)):
        plan = create_transport(path, "velocity").path_sampler
        noise = images(seed, SCORE, range(steps), 0, shape)
        u = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        t = (u ** (1 / 3) if path == "Linear" else u).float()
        x = x1[:1].expand(steps, *shape)
        _, xt, target = plan.plan(t, noise, x)
        v = model(xt, t, torch.full((steps,), label))
        if path == "Linear":
            curve = ((v - target) ** 2).mean(dim=(1, 2, 3)) / 3
        else:
            curve = ((plan.get_noise_from_velocity(v, xt, t) - noise) ** 2).mean(dim=(1, 2, 3))
        golden[f"difficulty.{path.lower()}.{steps}"] = curve.double()
    return golden


@torch.no_grad()
def tokens_golden(model, x1, shape, classes):
    """The first block's output at t = 0.9 for the null class."""
    caught = []
    handle = model.blocks[0].register_forward_hook(lambda module, args, result: caught.append(result))
    t = torch.tensor([0.9])
    model(0.9 * x1[:1] + (1 - t) * images(0, ENCODE, [0], 0, shape), t, torch.tensor([classes]))
    handle.remove()
    return {"tokens": caught[0][0]}


# ---- D2C's attachments: DC-Embedding (stated here anew from METHOD.md's formulas) and REPA's projector ----------------------


class DCEmbedder(torch.nn.Module):
    def __init__(self, classes, hidden, width, tokens):
        super().__init__()
        self.embedding_table = torch.nn.Embedding(classes + 1, hidden)
        self.conv = torch.nn.Conv1d(width, hidden, kernel_size=tokens, stride=tokens)
        self.mlp = torch.nn.Sequential(torch.nn.Linear(hidden, hidden), torch.nn.SiLU(), torch.nn.Linear(hidden, hidden))

    def text(self, tokens, mask):
        e = self.conv((tokens * mask[:, :, None]).transpose(1, 2)).squeeze(2)
        return self.mlp(F.layer_norm(e, e.shape[1:], eps=1e-6)) + e

    def forward(self, y, _):
        return self.text(self.tokens[self.index], self.mask[self.index]) + self.embedding_table(y)


def attached_name(name):
    if name.startswith("y_embedder.") and "table" not in name:
        return "text_embedder." + name[len("y_embedder."):]
    return name


@torch.no_grad()
def prompt_difficulty(model, x, shape, text, mask, label=2, seed=7, steps=4):
    """The score of x[0] with one text, beside a label: a third of the velocity's error, in SiT's time."""
    noise = images(seed, SCORE, range(steps), 0, shape)
    t = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).pow(1 / 3).float()
    dc = model.y_embedder
    dc.tokens, dc.mask, dc.index = text, mask, torch.zeros(steps, dtype=torch.long)
    at = t[:, None, None, None]
    v = model(at * x[:1] + (1 - at) * noise, t, torch.full((steps,), label))[0]
    return (((v - (x[:1] - noise)) ** 2).mean(dim=(1, 2, 3)) / 3).double()


def attached_golden():
    classes, shape, width, tokens, hidden, proj = 5, (3, 6, 6), 6, 4, 24, 10
    repa = module_at("repa_sit", repa_checkout + "/models/sit.py")
    model = repa.SiT(path_type="linear", input_size=6, patch_size=2, in_channels=3, hidden_size=hidden,
                     decoder_hidden_size=hidden, encoder_depth=1, depth=2, num_heads=2, num_classes=classes,
                     z_dims=[proj], projector_dim=16, qk_norm=False)
    model.y_embedder = DCEmbedder(classes, hidden, width, tokens)
    randomise(model, 31)
    generator = torch.Generator().manual_seed(32)
    class_text = torch.randn((classes, tokens, width), generator=generator)
    class_mask = torch.ones((classes, tokens))
    class_mask[0, 2:] = 0
    class_mask[3, 3:] = 0
    x = torch.randn((4, *shape), generator=generator)
    target = torch.randn((4, *shape), generator=generator)
    features = torch.randn((4, 9, proj), generator=generator)
    t = torch.tensor([0.2, 0.5, 0.7, 0.9])
    y = torch.tensor([2, 0, 2, classes])
    dc = model.y_embedder
    dc.tokens = torch.cat([class_text[[2, 0]], torch.zeros(1, tokens, width)])
    dc.mask = torch.cat([class_mask[[2, 0]], torch.zeros(1, tokens)])
    dc.index = torch.tensor([0, 1, 0, 2])
    out, (projected,) = model(x, t, y)
    denoise = ((out - target) ** 2).mean(dim=(1, 2, 3))
    align = -(F.normalize(projected, dim=-1) * F.normalize(features, dim=-1)).sum(-1).mean(1)
    (denoise + 0.5 * align).mean().backward()
    null = dc.text(torch.zeros(1, tokens, width), torch.zeros(1, tokens))
    golden = {"x": x, "t": t, "y": y, "target": target, "features": features, "text": dc.tokens, "mask": dc.mask,
              "index": dc.index, "out": out, "projected": projected, "loss": denoise + 0.5 * align,
              "class_text": class_text, "class_mask": class_mask,
              "folded": torch.cat([dc.text(class_text, class_mask), null]) + dc.embedding_table.weight}
    golden.update(plain_gradients(model, attached_name))
    golden["difficulty"] = prompt_difficulty(model, x, shape, class_text[3:4], class_mask[3:4])
    config = description(model, 6, classes, text_tokens=tokens, text_width=width, proj_block=1, proj_hidden=16,
                         proj_width=proj)
    save("attached", {attached_name(k): v for k, v in model.state_dict().items()}, {"d2c.sit": config})
    save("attached.golden", golden)


def plain(name, seed, size, patch, channels, hidden, heads, sigma, classes, more):
    model = models.SiT(input_size=size, patch_size=patch, in_channels=channels, hidden_size=hidden, depth=2,
                       num_heads=heads, num_classes=classes, learn_sigma=sigma)
    randomise(model, seed)
    shape = (channels, size, size)
    golden = training_golden(model, shape, classes, seed + 1)
    golden.update(more(model, golden["x1"], shape, classes))
    save(name, model.state_dict(), {"d2c.sit": description(model, size, classes)})
    save(name + ".golden", golden)


plain("latent", 11, 8, 2, 4, 32, 2, True, 5, lambda model, x1, shape, classes: sampling_golden(model, shape, classes))
plain("pixel", 21, 12, 4, 1, 24, 3, False, 4,
      lambda model, x1, shape, classes: difficulty_golden(model, x1, shape) | tokens_golden(model, x1, shape, classes))
attached_golden()
