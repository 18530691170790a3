"""The public trainings of SiT, DiT and REPA beside d2c train, from the same weights, on the same rows, times, noise and
dropped labels, which are d2c's draws (test/golden/philox.py) in the place of torch's.  Called by bench/parity.sh:

    train_public.py data FOLDER                                    what the table is made of
    train_public.py cases                                          their names
    train_public.py options CASE                                   d2c train's options
    train_public.py init CASE CHECKOUTS FILE                       weights to start with, in the public names
    train_public.py compare CASE CHECKOUTS RUN                     trains the public way from RUN.safetensors, compares with d2c's RUN,
                                                                   and loads RUN.pt, which was exported of it

CHECKOUTS is SIT_CHECKOUT:DIT_CHECKOUT:REPA_CHECKOUT.  Needs torch (CPU), timm, torchdiffeq, numpy, safetensors.
"""
import functools
import glob
import hashlib
import importlib.util
import json
import math
import os
import struct
import sys
from copy import deepcopy

import numpy as np
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "test", "golden"))
from philox import LABEL_DROP, NOISE, TIME, images, normals, philox  # noqa: E402

ROWS, SIZE, CLASSES, BATCH, STEPS, SEED, RATE, DECAY, DROP = 100, 8, 5, 16, 100, 11, 1e-4, 0.99, 0.1
HIDDEN, DEPTH, HEADS, PATCH, TOKENS, FEATURES, PROJECTOR = 64, 3, 4, 2, 16, 24, 48
LOSS_BOUND, WEIGHT_BOUND = 1e-4, 1e-3

# kind, path, time sampling, alignment, normalised queries and keys
CASES = {
    "sit-linear": ("sit", "Linear", "uniform", False, False),
    "sit-gvp": ("sit", "GVP", "uniform", False, False),
    "sit-vp": ("sit", "VP", "uniform", False, False),
    "dit": ("dit", "Linear", "uniform", False, False),
    "repa-aligned": ("repa", "linear", "uniform", True, False),
    "repa-qk-norm": ("repa", "linear", "uniform", True, True),
    "repa-lognormal": ("repa", "linear", "lognormal", True, False),
    "repa-cosine-lognormal": ("repa", "cosine", "lognormal", True, True),
}


def data():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (ROWS, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    features = torch.randn((ROWS, TOKENS, FEATURES), generator=generator).half().float()
    return pixels, torch.arange(ROWS) % CLASSES, features


def write_data(folder):
    pixels, labels, features = data()
    with open(folder + "/images", "wb") as file:
        file.write(struct.pack(">IIII", 0x803, ROWS, SIZE, SIZE) + pixels.numpy().tobytes())
    with open(folder + "/labels", "wb") as file:
        file.write(struct.pack(">II", 0x801, ROWS) + bytes(labels.tolist()))
    with open(folder + "/features", "w") as file:
        for row in range(ROWS):
            file.write(f"{row + 1}\tf32:{json.dumps(features[row].tolist())}\n")


def options(kind, path, sampling, aligned, qk_norm):
    given = dict(kind=kind, model="custom", hidden=HIDDEN, depth=DEPTH, heads=HEADS, patch=PATCH, seed=SEED,
                 visual="auto" if aligned else "off")
    given |= {"path-type": path, "time-sampling": sampling, "qk-norm": "on" if qk_norm else "off",
              "encoder-depth": 2, "proj-hidden": PROJECTOR, "proj-coeff": 0.5, "global-batch-size": BATCH,
              "max-train-steps": STEPS, "learning-rate": RATE, "cfg-prob": DROP, "ema-decay": DECAY, "ema-warmup": "off",
              "max-grad-norm": 1 if kind == "repa" else 0, "mixed-precision": "no", "device": "cpu", "log-every": 1}
    return " ".join(f"--{name} {value}" for name, value in given.items())


# ---- the public codes --------------------------------------------------------------------------------------------------


def module_at(name, path):
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_model(checkouts, kind, qk_norm):
    common = dict(input_size=SIZE, patch_size=PATCH, in_channels=1, hidden_size=HIDDEN, depth=DEPTH, num_heads=HEADS,
                  num_classes=CLASSES, class_dropout_prob=DROP)
    if kind == "sit":
        return module_at("sit_models", checkouts[0] + "/models.py").SiT(**common, learn_sigma=True)
    if kind == "dit":
        return module_at("dit_models", checkouts[1] + "/models.py").DiT(**common)
    repa = module_at("repa_models", checkouts[2] + "/models/sit.py")
    # Written for a timm whose Attention normalises with LayerNorm unless told otherwise.
    repa.Attention = functools.partial(repa.Attention, norm_layer=torch.nn.LayerNorm)
    return repa.SiT(**common, decoder_hidden_size=HIDDEN, encoder_depth=2, z_dims=[FEATURES], projector_dim=PROJECTOR,
                    fused_attn=True, qk_norm=qk_norm, use_cfg=True)


def randomise(model):
    """The public initialisation (START=public) has zeros that hide most of the network from the first steps."""
    generator = torch.Generator().manual_seed(7)
    for name, p in model.named_parameters():
        if name != "pos_embed":
            fan_in = p[0].numel() if p.dim() > 1 else 25
            p.data = torch.randn(p.shape, generator=generator) / math.sqrt(fan_in) * (0.5 if "adaLN" in name else 1.0)
            p.data += 1 if "norm.weight" in name else 0
    return model


def draws_of(step):
    """The rows of a step, as indices, and their ids and epochs."""
    out = []
    for position in range(step * BATCH, (step + 1) * BATCH):
        epoch = position // ROWS
        order = sorted(range(ROWS), key=lambda row: hashlib.sha256(f"{SEED}:{epoch}:{row + 1}".encode()).digest())
        out.append((order[position % ROWS], epoch))
    return out


def words(purpose, rows):
    return [int(philox(SEED, 0, row + 1, epoch * 256 + purpose)[0]) for row, epoch in rows]


def uniforms(purpose, rows):
    return torch.tensor([(w >> 8) / 2**24 for w in words(purpose, rows)])


class Draws:
    """torch's rand, randn and randn_like while a public loss is computed: the time first, the dropped labels last."""

    def __init__(self, rows, sampling):
        drawn = uniforms(TIME, rows)
        if sampling == "lognormal":
            drawn = torch.stack([normals(SEED, TIME, row + 1, epoch, 1)[0] for row, epoch in rows])
        self.queue = [drawn, uniforms(LABEL_DROP, rows)]
        self.noise = torch.cat([images(SEED, NOISE, [row + 1], epoch, (1, SIZE, SIZE)) for row, epoch in rows])

    def __enter__(self):
        self.saved = torch.rand, torch.randn, torch.randn_like
        torch.rand = torch.randn = lambda size, *more, **_: self.queue.pop(0).reshape(size)
        torch.randn_like = lambda x: self.noise
        return self

    def __exit__(self, *_):
        torch.rand, torch.randn, torch.randn_like = self.saved


def losses(checkouts, kind, path, sampling, aligned):
    """loss(model, x, y, features, rows) -> the loss of a step, as the public train.py has it."""
    if kind == "sit":
        sys.path.insert(0, checkouts[0])
        from transport import create_transport
        transport = create_transport(path, "velocity")

        def loss(model, x, y, features, rows):
            with Draws(rows, sampling):
                return transport.training_losses(model, x, dict(y=y))["loss"].mean()
    elif kind == "dit":
        sys.path.insert(0, checkouts[1])
        from diffusion import create_diffusion
        diffusion = create_diffusion(timestep_respacing="")

        def loss(model, x, y, features, rows):
            t = torch.tensor([w * diffusion.num_timesteps >> 32 for w in words(TIME, rows)])
            with Draws(rows, sampling) as draws:
                draws.queue.pop(0)
                return diffusion.training_losses(model, x, t, dict(y=y))["loss"].mean()
    else:
        loss_fn = module_at("repa_loss", checkouts[2] + "/loss.py").SILoss(path_type=path, weighting=sampling)

        def loss(model, x, y, features, rows):
            with Draws(rows, sampling):
                denoise, align = loss_fn(model, x, dict(y=y), zs=[features])
            return denoise.mean() + 0.5 * align.mean()
    return loss


@torch.no_grad()
def update_ema(ema, model):
    """As in the public train.py, which each have it."""
    for theirs, ours in zip(ema.parameters(), model.parameters()):
        theirs.mul_(DECAY).add_(ours, alpha=1 - DECAY)


def train(model, loss_of, clip):
    pixels, labels, features = data()
    x = (pixels[:, None].float() / 255 - 0.5) / 0.5  # ToTensor and Normalize
    ema, curve = deepcopy(model), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0)
    model.train()
    for step in range(STEPS):
        rows = draws_of(step)
        at = torch.tensor([row for row, _ in rows])
        loss = loss_of(model, x[at], labels[at], features[at], rows)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_ema(ema, model)
        curve.append(loss.item())
    return curve, model.state_dict(), ema.state_dict()


# ---- comparison ----------------------------------------------------------------------------------------------------------


def without_key_bias(name, value, qk_norm):
    """The gradient of what is added to all keys alike is zero, and Adam makes steps of its rounding."""
    if name.endswith("attn.k_norm.bias"):
        return value[:0]
    if name.endswith("attn.qkv.bias") and not qk_norm:
        return torch.cat([value[:HIDDEN], value[2 * HIDDEN:]])
    return value


def block_of(name):
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]


def distances(ours, theirs, start, qk_norm):
    """The worst block's |ours - theirs| / |theirs|, and over the way from the start."""
    sums = {}
    for name, value in theirs.items():
        if name == "pos_embed":
            continue
        a, b, c = (without_key_bias(name, t[name].double(), qk_norm) for t in (ours, theirs, start))
        assert a.shape == b.shape, name
        total = sums.setdefault(block_of(name), [0, 0, 0])
        for i, v in enumerate((a - b, b, b - c)):
            total[i] += float((v ** 2).sum())
    by_norm = {block: math.sqrt(d / n) for block, (d, n, _) in sums.items()}
    by_way = {block: math.sqrt(d / w) for block, (d, _, w) in sums.items()}
    return max(by_norm.items(), key=lambda item: item[1]), max(by_way.items(), key=lambda item: item[1])


def check_export(model, path, checkpoint):
    """The exported file loads strictly, and is the average."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state.get("ema", state), strict=True)
    assert all(torch.equal(value, checkpoint["ema." + name]) for name, value in model.state_dict().items())


def compare(case, checkouts, run):
    kind, path, sampling, aligned, qk_norm = CASES[case]
    start = load_file(run + ".safetensors")
    model = make_model(checkouts, kind, qk_norm)
    model.load_state_dict(start, strict=True)
    curve, weights, ema = train(model, losses(checkouts, kind, path, sampling, aligned), kind == "repa")
    with open(run + "/metrics.jsonl") as file:
        ours = [json.loads(line)["loss"] for line in file]
    assert len(ours) == STEPS, len(ours)
    checkpoint = load_file(sorted(glob.glob(run + "/checkpoints/*.safetensors"))[-1])
    check_export(deepcopy(model), run + ".pt", checkpoint)
    loss = max(abs(a - b) / abs(b) for a, b in zip(ours, curve))
    print(f"{case}: loss {curve[0]:.4f} to {curve[-1]:.4f}; curves differ by {loss:.1e}", end="")
    worst = 0
    for what, prefix, theirs in (("weights", "model.", weights), ("EMA", "ema.", ema)):
        part = {n: checkpoint[prefix + n] for n in theirs}
        norm, way = distances(part, theirs, start, qk_norm)
        print(f"; {what} by {norm[1]:.1e} of a block's norm ({norm[0]}), {way[1]:.1e} of its way ({way[0]})", end="")
        worst = max(worst, norm[1])
    print()
    return loss <= LOSS_BOUND and worst <= WEIGHT_BOUND


def main():
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    action = sys.argv[1]
    if action == "data":
        write_data(sys.argv[2])
    elif action == "cases":
        print(" ".join(CASES))
    elif action == "options":
        print(options(*CASES[sys.argv[2]]))
    elif action == "init":
        kind, _, _, _, qk_norm = CASES[sys.argv[2]]
        torch.manual_seed(3)
        model = make_model(sys.argv[3].split(":"), kind, qk_norm)
        if os.environ.get("START") != "public":
            randomise(model)
        save_file({name: value.clone() for name, value in model.state_dict().items()}, sys.argv[4])
    elif action == "compare":
        sys.exit(not compare(sys.argv[2], sys.argv[3].split(":"), sys.argv[4]))


main()
