#!/usr/bin/env python3
"""Stable Diffusion's encoder and DINOv2-B beside their public implementations in PyTorch, in turns.

    vision_torch.py PROGRAM [--threads N] [--dtype f32|bf16] [--pairs N] [--only vae|dinov2]
PROGRAM is bench/vision.  The networks have their real sizes and random weights; both sides get the same weights and the
same picture of 256 x 256.  A pair is one picture by PyTorch and one by the program.  Printed are the ratios of the
medians, of wall time and of processor time: above 1 the program is faster.
Threads that wait sleep on both sides: spinning would count as processor time.
Needs diffusers and transformers besides torch.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded

import torch

SIDE = 256


def picture():
    """[3, 256, 256], 0 to 255."""
    return (torch.arange(3 * SIDE * SIDE, dtype=torch.int64) * 7919 % 256).reshape(SIDE, SIDE, 3).permute(2, 0, 1)


def make_vae(folder):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=SIDE,
    ).eval()
    vae.save_pretrained(f"{folder}/vae")
    x = (picture() / 127.5 - 1)[None].float()
    return lambda: vae.encode(x).latent_dist.mean


def make_dinov2(folder):
    """The picture's centre of 224 x 224, normalised as transformers' processor does it."""
    from transformers import Dinov2Config, Dinov2Model

    model = Dinov2Model(Dinov2Config(image_size=224)).eval()
    model.save_pretrained(f"{folder}/dinov2")
    with open(f"{folder}/dinov2/d2c.json", "w", encoding="utf-8") as file:
        json.dump({"preprocess": "huggingface"}, file)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = ((picture()[:, 16:240, 16:240] / 255 - mean) / deviation)[None].float()
    return lambda: model(pixel_values=x).last_hidden_state[:, 1:]


def timed(call):
    wall, used = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - used, result.float().norm().item()


def measure(name, run, program, folder, args):
    def theirs():
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            return run()

    def ours():
        other.stdin.write("\n")
        other.stdin.flush()
        return tuple(map(float, other.stdout.readline().split()))

    command = [program, name, folder, name, "--threads", str(args.threads), "--dtype", args.dtype]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        timed(theirs), ours()
        pairs = [(timed(theirs), ours()) for _ in range(args.pairs)]
        other.stdin.close()
    wall, used = ([statistics.median(pair[side][clock] for pair in pairs) for side in (0, 1)] for clock in (0, 1))
    lengths = [pairs[0][side][2] for side in (0, 1)]
    print(
        f"{wall[0] / wall[1]:.2f} of PyTorch's speed by wall time, {used[0] / used[1]:.2f} by processor time: {name} "
        f"{args.dtype}, {args.threads} threads, {args.pairs} pairs: {wall[1] * 1e3:.1f} ms, PyTorch {wall[0] * 1e3:.1f} ms; "
        f"processor {used[1] * 1e3:.1f} and {used[0] * 1e3:.1f} ms; results' lengths differ by "
        f"{abs(lengths[1] / lengths[0] - 1):.1e}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", choices=("vae", "dinov2"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    for name, make in (("vae", make_vae), ("dinov2", make_dinov2)):
        if args.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                measure(name, make(folder), args.program, folder, args)


if __name__ == "__main__":
    main()
