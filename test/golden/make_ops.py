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
    out = {name: t.float().contiguous() for name, t in out.items()}
    save_file(out, f"{sys.argv[1]}/ops.safetensors")


main()
