#!/usr/bin/env python3
"""PyTorch at what bench/gpu/speed.c measures: SiT's training step with REPA's projector, and the step's bare products.

    peer_sit.py [--device cuda] [--sizes S/2,B/2,L/2,XL/2] [--compiled S/2,XL/2] [--batch 256] [--side 32]
                [--depth 0] [--seconds 4] [--limit 150]

Tab-separated lines, each as soon as it is measured:
    products  SIZE  ms of the step's matrix products alone, forward and backward, attention's left out
    peer      SIZE  mode (eager or compiled)  images/s  micro-batch
bf16 autocast, fused AdamW, scaled_dot_product_attention, EMA, clipping; compiled: torch.compile on the blocks.  What is
not measured when the limit in seconds is reached is left out.  A depth other than 0 takes the place of the size's own.
"""
import argparse
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "peers"))
from sit_torch import SiT, modulate  # noqa: E402

SIZES = {
    "S/2": dict(depth=12, hidden=384, heads=6, patch=2, channels=4, classes=1000),
    "B/2": dict(depth=12, hidden=768, heads=12, patch=2, channels=4, classes=1000),
    "L/2": dict(depth=24, hidden=1024, heads=16, patch=2, channels=4, classes=1000),
    "XL/2": dict(depth=28, hidden=1152, heads=16, patch=2, channels=4, classes=1000),
}
# Rows that fit into 80 GB at once with what autograd keeps; halved where they do not.
MICRO_BATCH = {"S/2": 256, "B/2": 256, "L/2": 128, "XL/2": 64}
TAP, PROJECTOR, FEATURES = 8, 2048, 768


class AlignedSiT(SiT):
    """SiT with the projector that REPA trains along, on the tokens after block TAP."""

    def __init__(self, **size):
        super().__init__(**size)
        self.projector = nn.Sequential(
            nn.Linear(size["hidden"], PROJECTOR), nn.SiLU(), nn.Linear(PROJECTOR, PROJECTOR), nn.SiLU(),
            nn.Linear(PROJECTOR, FEATURES))

    def forward(self, x, t, y):
        frequency = torch.exp(-9.210340371976184 * torch.arange(128, dtype=torch.float32, device=x.device) / 128)
        angle = t[:, None] * frequency
        c = self.time(torch.cat([angle.cos(), angle.sin()], dim=1)) + self.label(y)
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        for number, block in enumerate(self.blocks, 1):
            x = block(x, c)
            if number == min(TAP, len(self.blocks)):
                z = self.projector(x)
        shift, scale = self.ada(F.silu(c)).chunk(2, dim=1)
        x = self.out(modulate(self.norm(x), shift, scale))
        g, p = self.grid, self.patch
        return x.view(-1, g, g, p, p, self.channels).permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3), z


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


def training_step(size, args, device, micro):
    """The step as a function of nothing, on latents and features that stay on the device."""
    torch.manual_seed(1)
    with device:
        model = AlignedSiT(side=args.side, **size)
    if size["compiled"]:
        for i, block in enumerate(model.blocks):
            model.blocks[i] = torch.compile(block)
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


def measure_peer(name, compiled, args, device):
    micro = min(args.batch, MICRO_BATCH[name])
    while True:
        try:
            step = training_step(dict(SIZES[name], compiled=compiled), args, device, micro)
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
            torch._dynamo.reset()
            if device.type == "cuda":
                torch.cuda.empty_cache()


def measure_products(name, args, device):
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
    sizes, compiled = args.sizes.split(","), args.compiled.split(",")
    print("torch", torch.__version__, sep="\t", flush=True)
    for name in sizes:
        measure_products(name, args, device)
    # First what is to be compared with, then the other way round while time is left.
    jobs = [(name, name in compiled) for name in sizes] + [(name, name not in compiled) for name in sizes]
    for name, with_compiler in sorted(jobs[: len(sizes)], key=lambda job: not job[1]) + jobs[len(sizes):]:
        if time.perf_counter() < end:
            measure_peer(name, with_compiler, args, device)


if __name__ == "__main__":
    main()
