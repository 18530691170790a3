"""Writes tiny random autoencoders of Stable Diffusion's kind and what diffusers makes of some images with them.

    python make_vae.py

Needs torch, diffusers, safetensors and pillow. Writes models/tiny-vae/ (diffusers' folder), vae/old.safetensors (the same
weights under the names that diffusers had before 0.15), vae/compvis.safetensors (under the original code's names, as
they lie in a whole Stable Diffusion file), vae/expected.safetensors (inputs, posteriors, decoded images) and
vae/rgb.txt (the posterior of image/rgb.png, cropped to 64 pixels, as text of SQL's type tensor). The expected values
are computed in double precision.
"""
import json
import os
import tempfile

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from PIL import Image
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
folder = os.path.join(here, "models", "tiny-vae")
levels = 4
kinds = {"down": ["DownEncoderBlock2D"] * levels, "up": ["UpDecoderBlock2D"] * levels}


def make_model():
    torch.manual_seed(11)
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 12, 12),
        down_block_types=kinds["down"],
        up_block_types=kinds["up"],
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.25,
        sample_size=64,
    ).eval()
    with torch.no_grad():
        for name, value in vae.named_parameters():
            if value.ndim > 1:
                value.copy_(torch.randn_like(value) * value[0].numel() ** -0.5)
            else:
                value.copy_(torch.randn_like(value) * 0.3 + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
            value.copy_(value.half().float())
        # A spread of variances, some of them beyond the cut at 20.
        vae.quant_conv.bias[4:] = torch.tensor([-2.0, 3.0, 20.0, -30.0])
    return vae


def old_name(name):
    for new, old in (("to_q.", "query."), ("to_k.", "key."), ("to_v.", "value."), ("to_out.0.", "proj_attn.")):
        name = name.replace(new, old)
    return name


def compvis_name(name):
    parts = name.split(".")
    if parts[0] in ("quant_conv", "post_quant_conv"):
        return name
    half, rest = parts[0], parts[1:]
    if rest[0] == "mid_block" and rest[1] == "resnets":
        rest = ["mid", f"block_{int(rest[2]) + 1}"] + rest[3:]
    elif rest[0] == "mid_block":
        layer = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}[rest[3]]
        rest = ["mid", "attn_1", layer, rest[-1]]
    elif rest[0] in ("down_blocks", "up_blocks"):
        level = int(rest[1]) if rest[0] == "down_blocks" else levels - 1 - int(rest[1])
        middle = {"resnets": ["block", rest[3]], "downsamplers": ["downsample"], "upsamplers": ["upsample"]}[rest[2]]
        rest = [rest[0].split("_")[0], str(level)] + middle + rest[4:]
    elif rest[0] == "conv_norm_out":
        rest[0] = "norm_out"
    return ".".join([half] + ["nin_shortcut" if part == "conv_shortcut" else part for part in rest])


def compvis_value(name, value):
    is_attention = "mid_block.attentions" in name and value.ndim == 2
    return value[:, :, None, None].contiguous() if is_attention else value


def check_compvis(tensors, state):
    """diffusers' own conversion gives the weights back."""
    config = {"down_block_types": kinds["down"], "up_block_types": kinds["up"]}
    back = convert_ldm_vae_checkpoint(dict(tensors), config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def check_old(tensors, config, state):
    with tempfile.TemporaryDirectory() as old:
        save_file(tensors, os.path.join(old, "diffusion_pytorch_model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(old, "config.json"), "w") as file:
            json.dump(config, file)
        back = AutoencoderKL.from_pretrained(old).state_dict()
    assert all(torch.equal(back[name].half(), state[name]) for name in state)


def images():
    torch.manual_seed(12)
    for height, width in ((24, 40), (24, 40), (24, 40), (64, 64), (8, 8)):
        coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2) * 2 - 1
        smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        yield (smooth + torch.randn(1, 3, height, width) * 0.2).clamp(-1, 1)


def crop(path, size):
    """ADM's crop of a picture that is larger than its result, less than twice."""
    picture = Image.open(path).convert("RGB")
    scale = size / min(picture.size)
    assert 0.5 < scale
    picture = picture.resize(tuple(round(side * scale) for side in picture.size), resample=Image.BICUBIC)
    pixels = np.array(picture)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    pixels = pixels[top : top + size, left : left + size]
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]


def as_text(value):
    if value.ndim == 0:
        return f"{value.item():.9g}"
    return "[" + ",".join(as_text(part) for part in value) + "]"


def main():
    os.makedirs(folder, exist_ok=True)
    os.makedirs(os.path.join(here, "vae"), exist_ok=True)
    vae = make_model()
    config = {k: v for k, v in vae.config.items() if not k.startswith("_") or k == "_class_name"}
    config["_class_name"] = "AutoencoderKL"
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1, sort_keys=True)
    state = {name: value.half().contiguous() for name, value in vae.state_dict().items()}
    save_file(state, os.path.join(folder, "diffusion_pytorch_model.safetensors"), metadata={"format": "pt"})
    old = {old_name(name): value for name, value in state.items()}
    check_old(old, config, state)
    save_file(old, os.path.join(here, "vae", "old.safetensors"))
    compvis = {"first_stage_model." + compvis_name(name): compvis_value(name, value) for name, value in state.items()}
    check_compvis(compvis, state)
    save_file(compvis, os.path.join(here, "vae", "compvis.safetensors"))

    vae = vae.double()
    expected = {}
    for i, x in enumerate(images()):
        with torch.no_grad():
            posterior = vae.encode(x.double()).latent_dist
            latent = torch.randn(posterior.mean.shape)
            decoded = vae.decode(latent.double()).sample
        for part, value in (("x", x), ("mean", posterior.mean), ("std", posterior.std), ("latent", latent), ("decoded", decoded)):
            expected[f"{i}.{part}"] = value[0].float().contiguous()
        print(i, tuple(x.shape), "mean", posterior.mean.std().item(), "logvar", posterior.logvar.min().item(),
              posterior.logvar.max().item(), "decoded", decoded.std().item())
        # What torch itself loses in bf16.
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            low = AutoencoderKL.from_config(config).eval()
            low.load_state_dict({k: v.float() for k, v in vae.state_dict().items()})
            m = low.encode(x).latent_dist
            d = low.decode(latent).sample
        error = lambda a, b: ((a.double() - b).norm() / b.norm()).item()
        print("  bf16 autocast: mean", error(m.mean, posterior.mean), "std", error(m.std, posterior.std), "decoded", error(d, decoded))
    with torch.no_grad():
        posterior = vae.encode(crop(os.path.join(here, "image", "rgb.png"), 64)).latent_dist
    with open(os.path.join(here, "vae", "rgb.txt"), "w") as file:
        file.write("f32:" + as_text(torch.cat((posterior.mean, posterior.std), 1)[0]) + "\n")
    save_file(expected, os.path.join(here, "vae", "expected.safetensors"))


main()
