#!/usr/bin/env python3
"""PyTorch at what bench/gpu/encoders.c measures: the autoencoder, DINOv2 and T5's encoder, at their public sizes.

    peer_encoders.py write FOLDER [--shrink N]      random weights as model files, under the public codes' names
    peer_encoders.py measure FOLDER [--device cuda] [--seconds 2] [--batches 1,32] [--limit 110] [--shrink N]
                                    [--compiled t5,dinov2,encode,decode]

measure prints tab-separated lines, each as soon as it is measured:
    encoder  NAME  mode (eager or compiled)  batch  results/s  length of the first result
NAME is encode (256 x 256 pixels), decode (its latent), dinov2 (B/14 at 224 x 224) or t5 (flan-t5-xl's encoder, 16 tokens).
Weights and inputs are bf16, without autocast, which would cast f32 weights anew in every call; inputs stay on the device.
scaled_dot_product_attention, channels-last convolutions.  All are measured eager first, then those named by --compiled
with torch.compile: t5's and dinov2's blocks, which are alike, and all of encode and decode.  What is not measured when
the limit in seconds is reached is left out; what fails leaves a line "Error: ...", and the next is measured.
The networks are written here from the public descriptions, so that torch alone is needed; shrink divides widths.
"""
import argparse
import gc
import json
import os
import shutil
import struct
import time

import torch
from torch import nn
from torch.nn import functional as F

SIDE = 256
# The prompt of encoders.c in the vocabulary of the tests' T5, cut to 16 tokens.
PROMPT = (6, 121, 14, 9, 6, 69, 26, 280, 17, 59, 47, 17, 46, 13, 14, 1)
TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir)


# ---- the autoencoder, under diffusers' names ----------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, width, 1e-6), nn.Conv2d(width, out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, out, 1e-6), nn.Conv2d(out, out, 3, padding=1)
        if width != out:
            self.conv_shortcut = nn.Conv2d(width, out, 1)

    def forward(self, x):
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.group_norm = nn.GroupNorm(32, width, 1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x):
        y = self.group_norm(x).flatten(2).transpose(1, 2)
        y = F.scaled_dot_product_attention(*(f(y)[:, None] for f in (self.to_q, self.to_k, self.to_v)))[:, 0]
        return x + self.to_out[0](y).transpose(1, 2).reshape(x.shape)


class Middle(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.resnets = nn.ModuleList([Residual(width, width) for _ in range(2)])
        self.attentions = nn.ModuleList([Attention(width)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Down(nn.Module):
    def __init__(self, width, out, last):
        super().__init__()
        self.resnets = nn.ModuleList([Residual(width, out), Residual(out, out)])
        if not last:
            self.downsamplers = nn.ModuleList([nn.ModuleDict({"conv": nn.Conv2d(out, out, 3, stride=2)})])

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        return self.downsamplers[0]["conv"](F.pad(x, (0, 1, 0, 1))) if hasattr(self, "downsamplers") else x


class Up(nn.Module):
    def __init__(self, width, out, last):
        super().__init__()
        self.resnets = nn.ModuleList([Residual(width, out), Residual(out, out), Residual(out, out)])
        if not last:
            self.upsamplers = nn.ModuleList([nn.ModuleDict({"conv": nn.Conv2d(out, out, 3, padding=1)})])

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        return self.upsamplers[0]["conv"](F.interpolate(x, scale_factor=2)) if hasattr(self, "upsamplers") else x


class Half(nn.Module):
    """The encoder or the decoder; both end alike."""

    def __init__(self, widths, decoder):
        super().__init__()
        inner = widths[-1]
        self.conv_in = nn.Conv2d(4, inner, 3, padding=1) if decoder else nn.Conv2d(3, widths[0], 3, padding=1)
        self.mid_block = Middle(inner)
        order = widths[::-1] if decoder else widths
        blocks = nn.ModuleList([(Up if decoder else Down)(order[max(i - 1, 0)], order[i], i == len(order) - 1)
                                for i in range(len(order))])
        if decoder:
            self.up_blocks = blocks
        else:
            self.down_blocks = blocks
        self.conv_norm_out = nn.GroupNorm(32, order[-1], 1e-6)
        self.conv_out = nn.Conv2d(order[-1], 3 if decoder else 8, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        if hasattr(self, "up_blocks"):
            x = self.mid_block(x)
            for block in self.up_blocks:
                x = block(x)
        else:
            for block in self.down_blocks:
                x = block(x)
            x = self.mid_block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    def __init__(self, shrink):
        super().__init__()
        widths = [max(32, w // shrink // 32 * 32) for w in (128, 256, 512, 512)]
        self.encoder, self.decoder = Half(widths, False), Half(widths, True)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)

    def encode(self, x):
        return self.quant_conv(self.encoder(x))[:, :4]

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))


# ---- DINOv2, under its own names ------------------------------------------------------------------------------------------


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c)
        x = x + self.ls1.gamma * self.attn["proj"](y)
        return x + self.ls2.gamma * self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Dinov2(nn.Module):
    def __init__(self, shrink):
        super().__init__()
        heads = max(1, 12 // shrink)
        width = 64 * heads
        self.cls_token, self.mask_token = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 257, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 14, stride=14)})
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(12)])
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 1:]


# ---- T5's encoder, under Hugging Face's names -----------------------------------------------------------------------------


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
        return self.weight * y.to(self.weight.dtype)


class T5Attention(nn.Module):
    def __init__(self, width, heads, first):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, 64 * heads, bias=False) for _ in range(3))
        self.o = nn.Linear(64 * heads, width, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(32, heads)

    def forward(self, x, bias):
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, self.heads, 64).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(y.transpose(1, 2).reshape(b, t, -1))


class T5Block(nn.Module):
    def __init__(self, width, heads, inner, first):
        super().__init__()
        attention, dense = nn.Module(), nn.Module()
        attention.SelfAttention, attention.layer_norm = T5Attention(width, heads, first), Norm(width)
        dense.DenseReluDense, dense.layer_norm = nn.Module(), Norm(width)
        dense.DenseReluDense.wi_0 = nn.Linear(width, inner, bias=False)
        dense.DenseReluDense.wi_1 = nn.Linear(width, inner, bias=False)
        dense.DenseReluDense.wo = nn.Linear(inner, width, bias=False)
        self.layer = nn.ModuleList([attention, dense])

    def forward(self, x, bias):
        attention, dense = self.layer
        x = x + attention.SelfAttention(attention.layer_norm(x), bias)
        y, d = dense.layer_norm(x), dense.DenseReluDense
        return x + d.wo(F.gelu(d.wi_0(y), approximate="tanh") * d.wi_1(y))


class T5(nn.Module):
    def __init__(self, shrink):
        super().__init__()
        heads = max(1, 32 // shrink)
        self.shared, self.encoder = nn.Embedding(416, 64 * heads), nn.Module()
        self.encoder.block = nn.ModuleList([T5Block(64 * heads, heads, 160 * heads, i == 0) for i in range(24)])
        self.encoder.final_layer_norm = Norm(64 * heads)
        self.config = {"model_type": "t5", "num_layers": 24, "d_model": 64 * heads, "num_heads": heads, "d_kv": 64,
                       "d_ff": 160 * heads, "vocab_size": 416, "relative_attention_num_buckets": 32,
                       "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
                       "feed_forward_proj": "gated-gelu"}

    def forward(self, ids):
        """At 16 tokens a distance up to 7 has a bucket of its own, and those beyond share one of two."""
        at = torch.arange(ids.shape[1], device=ids.device)
        distance = at[None] - at[:, None]
        size = distance.abs()
        bucket = torch.where(size < 8, size, torch.where(size < 12, 8, 9)) + 16 * (distance > 0)
        bias = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias(bucket).permute(2, 0, 1)[None]
        x = self.shared(ids)
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)


# ---- files, and time ------------------------------------------------------------------------------------------------------


def make(kind, shrink):
    """The same weights in every process: each weight has a deviation at which activations keep their size."""
    torch.manual_seed(1)
    with torch.no_grad():
        model = kind(shrink)
        for name, p in model.named_parameters():
            if p.dim() < 2:
                p.add_(torch.randn_like(p), alpha=0.02)
            else:
                p.normal_(0, 0.02 if "embed" in name or "bias" in name else (p[0].numel()) ** -0.5)
        if kind is T5:
            for block in model.encoder.block:
                block.layer[0].SelfAttention.q.weight.mul_(0.125)
    return model.eval()


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, value in tensors.items():
        size = value.numel() * 4
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            value.detach().contiguous().numpy().tofile(file)


def write(folder, shrink):
    os.makedirs(f"{folder}/t5", exist_ok=True)
    write_safetensors(f"{folder}/vae.safetensors", make(Autoencoder, shrink).state_dict())
    write_safetensors(f"{folder}/dinov2.safetensors", make(Dinov2, shrink).state_dict())
    t5 = make(T5, shrink)
    write_safetensors(f"{folder}/t5/model.safetensors", t5.state_dict())
    with open(f"{folder}/t5/config.json", "w", encoding="utf-8") as file:
        json.dump(t5.config, file)
    for name in ("spiece.model", "tokenizer_config.json"):
        source = f"{TREE}/test/golden/models/tiny-t5/{name}"
        if os.path.exists(source):
            shutil.copy(source, f"{folder}/t5/{name}")


def picture():
    """[256, 256, 3], 0 to 255: number i is 7919 i mod 256."""
    return (torch.arange(3 * SIDE * SIDE, dtype=torch.int64) * 7919 % 256).reshape(SIDE, SIDE, 3).permute(2, 0, 1)


def latent():
    """[4, 32, 32] in [-1, 1]: number i is (7919 i mod 2001) / 1000 - 1."""
    return (torch.arange(4096, dtype=torch.int64) * 7919 % 2001).reshape(4, 32, 32).float() / 1000 - 1


def dinov2_input():
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return F.interpolate(((picture() / 255 - mean) / deviation)[None], 224, mode="bicubic", align_corners=False)[0]


def cases(shrink):
    """Name, model, the model's call and input of one result: those first that are quickly compiled."""
    t5 = make(T5, shrink)
    yield "t5", t5, t5, torch.tensor(PROMPT)
    dinov2 = make(Dinov2, shrink)
    yield "dinov2", dinov2, dinov2, dinov2_input()
    vae = make(Autoencoder, shrink).to(memory_format=torch.channels_last)
    yield "encode", vae, vae.encode, picture() / 127.5 - 1
    yield "decode", vae, vae.decode, latent()


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate_of(call, x, device, seconds):
    """Results a second, after three calls to compile and warm up, and the first result's length."""
    with torch.no_grad():
        for _ in range(3):
            first = call(x)[0].float().norm().item()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(4):
                call(x)
            synchronize(device)
            count += 4
    return count * x.shape[0] / (time.perf_counter() - start), first


def compile_case(name, model, call):
    """The call, compiled; blocks that are alike are compiled once."""
    blocks = {"t5": lambda: model.encoder.block, "dinov2": lambda: model.blocks}.get(name)
    if blocks is None:
        return torch.compile(call, dynamic=False)
    for i, block in enumerate(blocks()):
        blocks()[i] = torch.compile(block, dynamic=False)
    return call


def measure_case(name, mode, call, x, batch, args, device):
    rows = x[None].expand(batch, *x.shape).contiguous().to(device)
    if rows.is_floating_point():
        rows = rows.to(torch.bfloat16)
    if rows.dim() == 4:
        rows = rows.to(memory_format=torch.channels_last)
    rate, length = rate_of(call, rows, device, args.seconds)
    print("encoder", name, mode, batch, f"{rate:.1f}", f"{length:.6g}", sep="\t", flush=True)


def measure(args):
    device = torch.device(args.device)
    end = time.perf_counter() + args.limit
    batches = [int(batch) for batch in args.batches.split(",")]
    torch.backends.cudnn.benchmark = True
    print("torch", torch.__version__, sep="\t", flush=True)
    made = [(name, model.to(device, torch.bfloat16), call, x) for name, model, call, x in cases(args.shrink)]
    for mode in ("eager", "compiled"):
        for name, model, call, x in made:
            if mode == "compiled" and name not in args.compiled.split(","):
                continue
            if mode == "compiled":
                call = compile_case(name, model, call)
            for batch in batches:
                if time.perf_counter() > end:
                    print("not measured: no time was left for", name, mode, batch, flush=True)
                    continue
                try:
                    measure_case(name, mode, call, x, batch, args, device)
                except Exception as e:  # pylint: disable=broad-exception-caught
                    print("Error:", name, mode, batch, repr(e)[:300], flush=True)
                gc.collect()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("write", "measure"))
    parser.add_argument("folder")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--compiled", default="t5,dinov2,encode,decode")
    parser.add_argument("--limit", type=float, default=110.0)
    parser.add_argument("--shrink", type=int, default=1)
    args = parser.parse_args()
    if args.action == "write":
        write(args.folder, args.shrink)
    else:
        measure(args)


if __name__ == "__main__":
    main()
