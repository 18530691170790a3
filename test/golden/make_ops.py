"""Makes test/golden/ops/ops.safetensors: small inputs and PyTorch's results for them.

    python make_ops.py OUTPUT_FOLDER

Needs torch and safetensors.  Everything is computed in double from f32 inputs and stored as f32, but the optimizer's
steps, which run in f32 as torch does them in training, clipping included.
"""
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file


def double(*tensors):
    return [t.double() for t in tensors]


def elementwise(out, draw):
    x = draw(64) * 3
    out["act.x"] = x
    (x,) = double(x)
    out["act.silu"] = F.silu(x)
    out["act.gelu_tanh"] = F.gelu(x, approximate="tanh")
    out["act.gelu_erf"] = F.gelu(x)
    out["act.relu"] = F.relu(x)
    out["act.gelu_quick"] = x * torch.sigmoid(1.702 * x)


def norms(out, draw):
    x, gamma, beta = draw(5, 24) * 2 + 0.7, draw(24), draw(24)
    out.update({"norm.x": x, "norm.gamma": gamma, "norm.beta": beta})
    x, gamma, beta = double(x, gamma, beta)
    out["norm.plain"] = F.layer_norm(x, (24,), eps=1e-6)
    out["norm.affine"] = F.layer_norm(x, (24,), gamma, beta, eps=1e-12)


def attention(out, draw):
    """Heads are packed as timm and SiT pack them: [B, T, 3, H, d]."""
    batch, tokens, heads, depth = 2, 7, 3, 8
    qkv, bias = draw(batch, tokens, 3 * heads * depth), draw(batch, heads, tokens, tokens)
    cotangent = draw(batch, tokens, heads * depth)
    out.update({"attention.qkv": qkv, "attention.bias": bias, "attention.dout": cotangent})
    qkv, bias, cotangent = double(qkv, bias, cotangent)
    qkv.requires_grad_()
    q, k, v = qkv.reshape(batch, tokens, 3, heads, depth).permute(2, 0, 3, 1, 4)
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(batch, tokens, -1)
    (dqkv,) = torch.autograd.grad(o, qkv, cotangent)
    scores = q @ k.transpose(-1, -2) / depth**0.5 + bias
    out.update({"attention.o": o.detach(), "attention.dqkv": dqkv, "attention.lse": scores.logsumexp(-1).detach()})


def wide_attention(out, draw):
    """One head of 512 over a picture's 4 x 3 pixels: the autoencoder's."""
    qkv = draw(1, 12, 3 * 512)
    out["wide.qkv"] = qkv
    q, k, v = qkv.double().chunk(3, dim=-1)
    out["wide.o"] = F.scaled_dot_product_attention(q, k, v)


def last(image):
    """Channels last."""
    return image.permute(0, 2, 3, 1)


def convolutions(out, draw):
    """name: kernel height and width, stride, padding at left, right, top, bottom."""
    for name, size, stride, padding in (
        ("same", (3, 3), 1, (1, 1, 1, 1)),
        ("down", (3, 3), 2, (0, 1, 0, 1)),
        ("stem", (7, 7), 2, (3, 3, 3, 3)),
        ("wide", (1, 7), 1, (3, 3, 0, 0)),
        ("skewed", (3, 2), 3, (0, 1, 2, 1)),
        ("point", (1, 1), 1, (0, 0, 0, 0)),
        ("point_2", (1, 1), 2, (0, 0, 0, 0)),
    ):
        x, weight, bias = draw(2, 5, 9, 7), draw(6, 5, *size), draw(6)
        out.update({f"conv.{name}.x": last(x), f"conv.{name}.weight": last(weight), f"conv.{name}.bias": bias})
        x, weight, bias = double(F.pad(x, padding), weight, bias)
        y = F.conv2d(x, weight, bias, stride)
        out[f"conv.{name}.y"] = last(y)
        out[f"conv.{name}.silu"] = last(F.silu(y))


def group_norms(out, draw):
    """The second picture's mean is fifty deviations away from 0."""
    x, gamma, beta = draw(2, 24, 5, 3) * 2, draw(24), draw(24)
    x[1] += 100
    out.update({"group.x": last(x), "group.gamma": gamma, "group.beta": beta})
    x, gamma, beta = double(x, gamma, beta)
    y = F.group_norm(x, 6, gamma, beta, eps=1e-6)
    out["group.y"] = last(y)
    out["group.silu"] = last(F.silu(y))


def pools(out, draw):
    """What lies outside does not count: FID's Inception leaves it out of means too."""
    x = draw(2, 6, 9, 7)
    out["pool.x"] = last(x)
    (x,) = double(x)
    out["pool.valid"] = last(F.max_pool2d(x, 3, stride=2))
    out["pool.max"] = last(F.max_pool2d(x, 3, stride=2, padding=1))
    out["pool.mean"] = last(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))
    out["pool.twice"] = last(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def gated(out, draw):
    """T5's norm, and its gated feed-forward layer's product; both halves come from one layer."""
    x, gamma, both = draw(5, 24) * 2 + 0.7, draw(24), draw(5, 24)
    out.update({"gated.x": x, "gated.gamma": gamma, "gated.both": both})
    x, gamma, both = double(x, gamma, both)
    out["gated.rms"] = F.rms_norm(x, (24,), gamma, eps=1e-6)
    gate, value = both.chunk(2, dim=-1)
    out["gated.gelu"] = F.gelu(gate, approximate="tanh") * value
    out["gated.silu"] = F.silu(gate) * value
    out["gated.plain"] = gate * value


def patches(out, draw):
    """Patch embedding's unfold (channel first) and the final layer's inverse (SiT's unpatchify, channel last)."""
    x = draw(2, 3, 4, 6)
    out["patch.x"] = x
    out["patch.first"] = F.unfold(x, 2, stride=2).transpose(1, 2)
    out["patch.last"] = torch.einsum("nchpwq->nhwpqc", x.reshape(2, 3, 2, 2, 3, 2)).reshape(2, 6, 12)


def text(out, draw):
    """A Conv1d whose kernel and stride are the whole text, over masked tokens."""
    x, weight, bias = draw(3, 4, 6), draw(5, 6, 4), draw(5)
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    out.update({"text.x": x, "text.weight": weight, "text.bias": bias, "text.mask": mask})
    x, weight, bias, mask64 = double(x, weight, bias, mask)
    out["text.y"] = F.conv1d((x * mask64[..., None]).transpose(1, 2), weight, bias, stride=4)[..., 0]


def losses(out, draw):
    """REPA's projection loss, and the same of tokens that are zero: normalize divides by 1e-12 then."""
    q = draw(2, 5, 12)
    out["cosine.q"] = q
    for name, z in (("cosine", draw(2, 5, 12)), ("cosine.zero", torch.zeros(2, 5, 12))):
        out[f"{name}.z"] = z
        z = z.double().requires_grad_()
        loss = -0.5 * (F.normalize(z, dim=-1) * F.normalize(q.double(), dim=-1)).sum(-1).mean(1)
        out[f"{name}.loss"] = loss.detach()
        (out[f"{name}.dz"],) = torch.autograd.grad(loss.mean(), z)
    out["cosine.similarity"] = F.cosine_similarity(out["cosine.z"].double(), q.double(), dim=-1).mean(1)


def timesteps(out, draw):
    """The public SiT's TimestepEmbedder.timestep_embedding, in double."""
    t = torch.tensor([0.0, 0.25, 0.7123, 1.0])
    out["time.t"] = t
    frequency = torch.exp(-torch.log(torch.tensor(1e4).double()) * torch.arange(16).double() / 16)
    angle = t.double()[:, None] * frequency
    out["time.y"] = torch.cat([angle.cos(), angle.sin()], -1)


def optimizer(out, draw):
    """Five steps of AdamW with clipping to 1 (the first two gradients are above, the others below) and an EMA."""
    value = draw(50)
    out["adamw.start"] = value.clone()
    parameter = torch.nn.Parameter(value.clone())
    ema = value.clone()
    stepper = torch.optim.AdamW([parameter], lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
    for step in range(5):
        parameter.grad = draw(50) * (1 if step < 2 else 0.02)
        out[f"adamw.grad.{step}"] = parameter.grad.clone()
        norm = torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        stepper.step()
        ema.lerp_(parameter.detach(), 0.1)
        out[f"adamw.norm.{step}"] = norm.reshape(1).clone()
        out[f"adamw.value.{step}"] = parameter.detach().clone()
        out[f"adamw.ema.{step}"] = ema.clone()


def main():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    out = {}
    for part in (elementwise, norms, attention, patches, text, losses, timesteps, optimizer):
        part(out, draw)
    for part in (wide_attention, convolutions, group_norms, pools, gated):
        part(out, draw)
    out = {name: t.float().contiguous() for name, t in out.items()}
    save_file(out, f"{sys.argv[1]}/ops.safetensors")


main()
