#!/usr/bin/env python3
"""PyTorch's time for the training step and the forward pass that bench/sit measures.

One line of JSON: images/s of the public SiT architecture, written anew with torch.nn, at the same shapes.
    sit_torch.py [--threads N] [--size s2|demo] [--dtype f32|bf16] [--seconds S] [--compile] [--training]
Precisions are f32 and bfloat16 autocast; the step is velocity loss, backward, clipping, AdamW (fused) and EMA.  With
--training alone the memory of the step is told as well: the most that the process has while steps run, compiling and
their first run behind it, less what it had before there was a model.
"""
import argparse
import json
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

SIZES = {
    "s2": dict(depth=12, hidden=384, heads=6, patch=2, channels=4, side=32, classes=1000, batch=32),
    "demo": dict(depth=4, hidden=96, heads=3, patch=4, channels=1, side=28, classes=10, batch=128),
}


def modulate(x, shift, scale):
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Block(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)
        self.ada = nn.Linear(hidden, 6 * hidden)

    def attention(self, x):
        batch, tokens, hidden = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        o = F.scaled_dot_product_attention(q, k, v)
        return self.proj(o.transpose(1, 2).reshape(batch, tokens, hidden))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(F.silu(c)).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.attention(modulate(self.norm1(x), shift1, scale1))
        h = F.gelu(self.fc1(modulate(self.norm2(x), shift2, scale2)), approximate="tanh")
        return x + gate2.unsqueeze(1) * self.fc2(h)


class SiT(nn.Module):
    def __init__(self, depth, hidden, heads, patch, channels, side, classes, **_):
        super().__init__()
        self.patch, self.channels, self.grid = patch, channels, side // patch
        self.embed = nn.Conv2d(channels, hidden, patch, patch)
        self.position = nn.Parameter(torch.randn(1, self.grid**2, hidden) * 0.02, requires_grad=False)
        self.time = nn.Sequential(nn.Linear(256, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.label = nn.Embedding(classes + 1, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.ada = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, patch * patch * channels)

    def after_block(self, number, x):
        """What a subclass does with the tokens after block 1, 2, ..."""

    def forward(self, x, t, y):
        weight = self.embed.weight
        frequency = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32, device=weight.device) / 128)
        angle = t[:, None] * frequency
        c = self.time(torch.cat([angle.cos(), angle.sin()], dim=1).to(weight.dtype)) + self.label(y)
        # Without contiguous() the tokens would keep the convolution's strides through every block.
        x = (self.embed(x.to(weight.dtype)).flatten(2).transpose(1, 2) + self.position).contiguous()
        for number, block in enumerate(self.blocks, 1):
            x = block(x, c)
            self.after_block(number, x)
        shift, scale = self.ada(F.silu(c)).chunk(2, dim=1)
        x = self.out(modulate(self.norm(x), shift, scale))
        g, p = self.grid, self.patch
        return x.view(-1, g, g, p, p, self.channels).permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def best_time(call, seconds):
    call()
    best, runs, end = math.inf, 0, time.perf_counter() + seconds
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best


def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(key))


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def measure(size, dtype, seconds, compiled, only_training):
    torch.manual_seed(1)
    before = memory("VmRSS")
    batch, side, channels = size["batch"], size["side"], size["channels"]
    model = SiT(**size)
    run = torch.compile(model) if compiled else model
    trained = [p for p in model.parameters() if p.requires_grad]
    ema = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    x1 = torch.randn(batch, channels, side, side)
    y = torch.randint(0, size["classes"], (batch,))

    def forward(x, t):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            return run(x, t, y).float()

    def step():
        x0, t = torch.randn_like(x1), torch.rand(batch)
        s = t.view(-1, 1, 1, 1)
        loss = (forward(s * x1 + (1 - s) * x0, t) - (x1 - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        torch._foreach_lerp_(ema, [p.detach() for p in trained], 0.001)

    def infer():
        with torch.no_grad():
            forward(x1, torch.full((batch,), 0.5))

    if only_training:
        step()
        step()
        forget_peak()
        rate = batch / best_time(step, seconds)
        return {"training_images_per_s": round(rate, 2), "memory_mib": round(memory("VmHWM") - before)}
    return {
        "training_images_per_s": round(batch / best_time(step, seconds), 2),
        "forward_images_per_s": round(batch / best_time(infer, seconds / 3), 2),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", choices=sorted(SIZES), default="s2")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--dtype", choices=("f32", "bf16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--training", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = {"peer": f"torch {torch.__version__}", "size": args.size, "threads": args.threads, "compile": args.compile}
    for dtype in [args.dtype] if args.dtype else ("f32", "bf16"):
        result[dtype] = measure(SIZES[args.size], dtype, args.seconds, args.compile, args.training)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
