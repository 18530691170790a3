#!/usr/bin/env python3
"""The training step beside PyTorch's with torch.compile, in turns, each in a process of its own: ratios of speed, and of the
memory that a step takes beyond an empty process, with what is kept for backward and with what is computed again.

    sit_pairs.py BENCH_SIT [--threads N] [--turns N] [--seconds S] [--size s2|demo] [--dtype f32|bf16]
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

LEVELS = ("none", "mlp", "block")


def ours(args, size, dtype, level):
    """images/s and MiB of our step; a process without a network has a few MiB, which are left in."""
    line = subprocess.run([args.program, "--pass", "training", "--threads", str(args.threads), "--seconds", str(args.seconds),
                           "--size", size, "--dtype", dtype, "--recompute", level], check=True, capture_output=True, text=True).stdout
    return float(re.search(r"([\d.]+) images/s", line)[1]), int(re.search(r"at most (\d+) MiB", line)[1])


def theirs(args, size, dtype):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sit_torch.py")
    result = json.loads(subprocess.run([sys.executable, script, "--compile", "--training", "--threads", str(args.threads), "--seconds",
                                        str(args.seconds), "--size", size, "--dtype", dtype], check=True, capture_output=True, text=True).stdout)
    return result[dtype]["training_images_per_s"], result[dtype]["memory_mib"], result["peer"]


def compare(args, size, dtype):
    speed, memory, peer = {level: [] for level in LEVELS}, {}, []
    for _ in range(args.turns):
        for level in LEVELS:
            rate, memory[level] = ours(args, size, dtype, level)
            speed[level].append(rate)
        peer.append(theirs(args, size, dtype))
    rate = statistics.median(p[0] for p in peer)
    mib = statistics.median(p[1] for p in peer)
    plain = statistics.median(speed["none"])
    print(f"{plain / rate:.2f} times {peer[0][2]} with torch.compile: training step, {size} {dtype}, {args.threads} threads: "
          f"{plain:.1f} and {rate:.1f} images/s (medians of {args.turns})")
    for level in LEVELS:
        print(f"{memory[level] / mib:.2f} of its memory with --recompute {level}: {memory[level]} and {mib:.0f} MiB; "
              f"the step takes {plain / statistics.median(speed[level]):.2f} times as long as with none", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--size", choices=("s2", "demo"))
    parser.add_argument("--dtype", choices=("f32", "bf16"))
    args = parser.parse_args()
    for size in [args.size] if args.size else ("s2", "demo"):
        for dtype in [args.dtype] if args.dtype else ("f32", "bf16"):
            compare(args, size, dtype)


if __name__ == "__main__":
    main()
