#!/usr/bin/env python3
"""PyTorch at what bench/gpu/speed.c measures: SiT's training step with REPA's projector, the step's bare products, the
forward pass and sampling.

    peer_sit.py [--device cuda] [--sizes S/2,B/2,L/2,XL/2] [--compiled S/2,XL/2] [--batch 256] [--side 32]
                [--depth 0] [--seconds 4] [--limit 150]

Tab-separated lines, each as soon as it is measured:
    peer      SIZE  mode (eager or compiled)  images/s  micro-batch
    products  SIZE  ms of the step's matrix products alone, forward and backward, attention's left out
    forward   SIZE  mode  images/s of the forward pass, an image being T = 8 rows of a batch
    sampled   SIZE  mode  images/s of Euler's method in 10 steps, 64 images at a time, from noise to the host's memory
Training: bf16 autocast over f32 weights, fused AdamW, scaled_dot_product_attention, EMA, clipping.  Forward pass and
sampling: bf16 weights and no autocast, so that nothing is cast on the way.  compiled: torch.compile on the blocks, for
the sizes named by --compiled; the other way of training follows while time is left.  What is not measured when the
limit in seconds is reached is left out; what fails leaves a line "Error: ...", and the next is measured.  A depth other
than 0 takes the place of the size's own.
"""
import argparse
import gc
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "peers"))
from sit_torch import SiT  # noqa: E402

SIZES = {
    "S/2": dict(depth=12, hidden=384, heads=6, patch=2, channels=4, classes=1000),
    "B/2": dict(depth=12, hidden=768, heads=12, patch=2, channels=4, classes=1000),
    "L/2": dict(depth=24, hidden=1024, heads=16, patch=2, channels=4, classes=1000),
    "XL/2": dict(depth=28, hidden=1152, heads=16, patch=2, channels=4, classes=1000),
}
# Rows that fit into 80 GB at once with what autograd keeps; halved where they do not.
MICRO_BATCH = {"S/2": 256, "B/2": 256, "L/2": 128, "XL/2": 64}
# What matters most comes first.
ORDER = ("XL/2", "S/2", "L/2", "B/2")
TAP, PROJECTOR, FEATURES = 8, 2048, 768
TIMESTEPS, SAMPLED, SAMPLER_STEPS = 8, 64, 10


class AlignedSiT(SiT):
    """SiT, and with `aligned` the projector that REPA trains along, on the tokens after block TAP."""

    def __init__(self, aligned, **size):
        super().__init__(**size)
        self.projector = nn.Sequential(
            nn.Linear(size["hidden"], PROJECTOR), nn.SiLU(), nn.Linear(PROJECTOR, PROJECTOR), nn.SiLU(),
            nn.Linear(PROJECTOR, FEATURES)) if aligned else None

    def after_block(self, number, x):
        if self.projector is not None and number == min(TAP, len(self.blocks)):
            self.projected = self.projector(x)

    def forward(self, x, t, y):
        self.projected = None
        return super().forward(x, t, y), self.projected


def make_model(name, compiled, aligned, args, device):
    torch.manual_seed(1)
    with device:
        model = AlignedSiT(aligned, side=args.side, **SIZES[name])
    if compiled:
        for i, block in enumerate(model.blocks):
            model.blocks[i] = torch.compile(block, dynamic=False)
    return model


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(call, device, seconds):
    """The mean of as many calls as fit, queued without waiting, after three to warm up."""
    for _ in range(3):
        call()
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    count = max(2, int(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(count):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / count


def training_step(name, compiled, args, device, micro):
    """The step as a function of nothing, on latents and features that stay on the device."""
    size = SIZES[name]
    model = make_model(name, compiled, True, args, device)
    trained = [p for p in model.parameters() if p.requires_grad]
    ema = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    latents = torch.randn(args.batch, size["channels"], args.side, args.side, device=device)
    features = torch.randn(args.batch, (args.side // size["patch"]) ** 2, FEATURES, device=device, dtype=torch.float16)
    labels = torch.randint(0, size["classes"], (args.batch,), device=device)

    def losses(x1, y, q):
        x0, t = torch.randn_like(x1), torch.rand(x1.shape[0], device=device)
        s = t.view(-1, 1, 1, 1)
        y = torch.where(torch.rand(y.shape, device=device) < 0.1, size["classes"], y)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            v, z = model(s * x1 + (1 - s) * x0, t, y)
        velocity = (v.float() - (x1 - x0)).square().mean()
        return velocity - 0.5 * F.cosine_similarity(z.float(), q.float(), dim=-1).mean()

    def step():
        optimizer.zero_grad()
        for at in range(0, args.batch, micro):
            part = slice(at, at + micro)
            loss = losses(latents[part], labels[part], features[part])
            (loss * (latents[part].shape[0] / args.batch)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        torch._foreach_lerp_(ema, [p.detach() for p in trained], 0.001)

    return step


def forget(device):
    """Gives back what was compiled, and memory, that of cycles too."""
    gc.collect()
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure_training(name, compiled, args, device):
    micro = min(args.batch, MICRO_BATCH[name])
    while True:
        try:
            step = training_step(name, compiled, args, device, micro)
            seconds = seconds_of(step, device, args.seconds)
            print("peer", name, "compiled" if compiled else "eager", f"{args.batch / seconds:.1f}", micro, sep="\t",
                  flush=True)
            return
        except torch.OutOfMemoryError:
            if micro == 1:
                raise
            micro //= 2
        finally:
            step = None
            forget(device)


def measure_inference(name, compiled, args, device):
    model = make_model(name, compiled, False, args, device).to(torch.bfloat16).eval()
    size, images, mode = SIZES[name], min(args.batch, SAMPLED), "compiled" if compiled else "eager"
    shape = (size["channels"], args.side, args.side)
    rows = torch.randn(args.batch, *shape, device=device)
    times = torch.rand(args.batch, device=device)
    labels = torch.arange(args.batch, device=device) % size["classes"]

    def sample():
        x = torch.randn(images, *shape, device=device)
        for at in range(SAMPLER_STEPS):
            t = torch.full((images,), at / SAMPLER_STEPS, device=device)
            x = x + model(x, t, labels[:images])[0].float() / SAMPLER_STEPS
        return x.cpu()

    with torch.no_grad():
        seconds = seconds_of(lambda: model(rows, times, labels), device, args.seconds / 4)
        print("forward", name, mode, f"{args.batch / TIMESTEPS / seconds:.1f}", sep="\t", flush=True)
        seconds = seconds_of(sample, device, args.seconds / 4)
        print("sampled", name, mode, f"{images / seconds:.1f}", sep="\t", flush=True)


def measure_products(name, _, args, device):
    """A layer's three products in bf16, as cuBLAS does them through torch."""
    size = SIZES[name]
    rows, c, depth = args.batch * (args.side // size["patch"]) ** 2, size["hidden"], size["depth"]
    layers = [(depth, rows, c, 3 * c), (depth, rows, c, c), (depth, rows, c, 4 * c), (depth, rows, 4 * c, c),
              (depth, args.batch, c, 6 * c), (1, rows, c, PROJECTOR), (1, rows, PROJECTOR, PROJECTOR),
              (1, rows, PROJECTOR, FEATURES)]
    total = 0.0
    for times, n, k, m in layers:
        x = torch.randn(n, k, device=device, dtype=torch.bfloat16)
        w = torch.randn(m, k, device=device, dtype=torch.bfloat16)
        dy = torch.randn(n, m, device=device, dtype=torch.bfloat16)
        for call in (lambda: x @ w.t(), lambda: dy @ w, lambda: dy.t() @ x):
            total += times * seconds_of(call, device, args.seconds / 40)
    print("products", name, f"{total * 1e3:.2f}", sep="\t", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", default="S/2,B/2,L/2,XL/2")
    parser.add_argument("--compiled", default="S/2,XL/2")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--limit", type=float, default=150.0)
    args = parser.parse_args()
    device = torch.device(args.device)
    end = time.perf_counter() + args.limit
    torch.set_float32_matmul_precision("high")
    for size in SIZES.values():
        size["depth"] = args.depth or size["depth"]
    sizes = [name for name in ORDER if name in args.sizes.split(",")]
    compiled = [name for name in sizes if name in args.compiled.split(",")]
    others = [name for name in sizes if name not in compiled]
    jobs = [(measure_training, name, True) for name in compiled]
    jobs += [(measure_products, name, False) for name in sizes]
    jobs += [(measure_inference, name, name in compiled) for name in sizes]
    jobs += [(measure_training, name, False) for name in others + compiled]
    jobs += [(measure_training, name, True) for name in others]
    print("torch", torch.__version__, sep="\t", flush=True)
    for measure, name, with_compiler in jobs:
        if time.perf_counter() > end:
            print("not measured: no time was left for", measure.__name__, name, flush=True)
            continue
        try:
            measure(name, with_compiler, args, device)
        except Exception as e:  # pylint: disable=broad-exception-caught
            print("Error:", measure.__name__, name, "compiled" if with_compiler else "eager", repr(e)[:300], flush=True)
        forget(device)


if __name__ == "__main__":
    main()
