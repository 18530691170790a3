"""Writes tiny random vision transformers in their public layouts, and what the public codes make of a picture with them.

    python make_vit.py DINOV2 REPA

Needs torch, torchvision, timm, transformers, Pillow and safetensors, and clones of facebookresearch/dinov2 and
sihyun-yu/REPA in the two folders.  Networks run in float64 on weights that float16 holds; pictures are made, and
positions resampled, in float32 as the public codes do.  Writes into vit/:
  hf-dinov2, hf-dinov2-reg, hf-clip     transformers' folders (the second with registers and SwiGLU, the third whole CLIP)
  hub-dinov2, hub-dinov2-reg            DINOv2's own names
  clip, mae, mocov3                     the names of OpenAI's CLIP, of MAE's and of MoCo v3's checkpoints
  expected.safetensors                  "MODEL.VARIANT" [tokens / stride, width]; metadata: stride and description
  bicubic.safetensors                   interpolated grids and position tables
and models/tiny-dinov2, a smaller folder for the SQL tests.
"""
import ast
import json
import os
import shutil
import sys
import types
import warnings
from functools import partial

warnings.filterwarnings("ignore")
dinov2_folder, repa_folder = sys.argv[1:3]
sys.path[:0] = [dinov2_folder, repa_folder]
sys.modules["clip"] = types.ModuleType("clip")  # REPA's clip_vit imports it and needs nothing of it

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import nn
from torchvision.transforms import Normalize
from transformers import (CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig,
                          Dinov2WithRegistersModel)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from dinov2.models.vision_transformer import DinoVisionTransformer
from models import clip_vit, mae_vit, mocov3_vit

here = os.path.dirname(os.path.abspath(__file__))
out = os.path.join(here, "vit")
picture = PIL.Image.open(os.path.join(here, "image", "large.png")).convert("RGB")
imagenet = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])


def functions_of(path, *names):
    """The named functions of a script that cannot be imported."""
    tree = ast.parse(open(path).read())
    wanted = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in names]
    space = dict(torch=torch, Normalize=Normalize, np=np, PIL=PIL,
                 IMAGENET_DEFAULT_MEAN=(0.485, 0.456, 0.406), IMAGENET_DEFAULT_STD=(0.229, 0.224, 0.225),
                 CLIP_DEFAULT_MEAN=(0.48145466, 0.4578275, 0.40821073),
                 CLIP_DEFAULT_STD=(0.26862954, 0.26130258, 0.27577711))
    exec(compile(ast.Module(wanted, []), path, "exec"), space)
    return [space[name] for name in names]


(preprocess_raw_image,) = functions_of(os.path.join(repa_folder, "train.py"), "preprocess_raw_image")
(center_crop_imagenet,) = functions_of(os.path.join(repa_folder, "preprocessing", "dataset_tools.py"),
                                       "center_crop_imagenet")
expected, said = {}, {}


def repa_input(encoder, resolution=256):
    raw = center_crop_imagenet(resolution, np.array(picture))
    return preprocess_raw_image(torch.from_numpy(raw).permute(2, 0, 1)[None].float(), encoder).double()


def processed(processor):
    return torch.from_numpy(np.asarray(processor(picture)["pixel_values"][0]))[None].double()


def randomise(model, seed):
    """Weights that show what is done with them, and that float16 holds."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            draw = torch.randn(value.shape, generator=generator)
            matrix = value.ndim > 1 and not any(w in name for w in ("token", "embedding", "pos_embed"))
            if matrix or "patch_embedding" in name:
                fan_in = value[0].numel()
                draw *= (2.0 if "attn" in name or "attention" in name else 1.0) / fan_in**0.5
            elif "weight" in name and value.ndim == 1:
                draw = 1 + 0.3 * draw
            else:
                draw *= 0.4
            value.copy_(draw.half())
    return model.eval()


def expect(name, tokens, stride=1, **description):
    expected[name] = tokens[0, ::stride].float().contiguous()
    said[name] = json.dumps(dict(stride=stride, description=description))


def half(state):
    return {k: v.detach().half().contiguous() for k, v in state.items()}


def save_folder(model, name, folder=out):
    path = os.path.join(folder, name)
    shutil.rmtree(path, ignore_errors=True)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.half().save_pretrained(path)
    model.float().load_state_dict(state)
    config = json.load(open(os.path.join(path, "config.json")))
    config.pop("transformers_version")
    json.dump(config, open(os.path.join(path, "config.json"), "w"), indent=1, sort_keys=True)
    for extra in os.listdir(path):
        if extra not in ("config.json", "model.safetensors"):
            os.unlink(os.path.join(path, extra))
    return model.double()


def resampled(model, name, side):
    """As REPA does with an encoder before it uses it."""
    owner, last = model, name.split(".")
    for part in last[:-1]:
        owner = getattr(owner, part)
    table = getattr(owner, last[-1])
    table.data = resample_abs_pos_embed(table.data, [side, side])


@torch.no_grad()
def make_transformers():
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=126,
                 patch_size=14)
    processor = BitImageProcessorPil(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **imagenet)

    model = save_folder(randomise(Dinov2Model(Dinov2Config(layer_norm_eps=1e-5, **sizes)), 1), "hf-dinov2")
    tokens = lambda x: model(x).last_hidden_state[:, 1:]
    expect("hf-dinov2.huggingface", tokens(processed(processor)), 4, preprocess="huggingface")
    expect("hf-dinov2.mixed", tokens(repa_input("dinov2")), 4, position="huggingface")
    stored = model.embeddings.position_embeddings.data.clone()
    resampled(model, "embeddings.position_embeddings", 16)
    expect("hf-dinov2.repa", tokens(repa_input("dinov2")))
    model.embeddings.position_embeddings.data = stored
    resampled(model, "embeddings.position_embeddings", 32)
    expect("hf-dinov2.repa512", tokens(repa_input("dinov2", 512)), 16, size=512)

    model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(use_swiglu_ffn=True, **sizes))
    model = save_folder(randomise(model, 2), "hf-dinov2-reg")
    tokens = lambda x: model(x).last_hidden_state[:, 5:]
    expect("hf-dinov2-reg.huggingface", tokens(processed(processor)), 4, preprocess="huggingface")
    expect("hf-dinov2-reg.repa", tokens(repa_input("dinov2")))

    small = dict(num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config = CLIPConfig(projection_dim=16,
                        text_config=dict(hidden_size=16, vocab_size=32, max_position_embeddings=8, **small),
                        vision_config=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                           intermediate_size=64, image_size=224, patch_size=14))
    model = save_folder(randomise(CLIPModel(config), 3), "hf-clip")
    tokens = lambda x: model.vision_model(pixel_values=x).last_hidden_state[:, 1:]
    expect("hf-clip.huggingface", tokens(processed(CLIPImageProcessorPil())), 4, preprocess="huggingface")
    expect("hf-clip.repa", tokens(repa_input("clip")))


@torch.no_grad()
def make_hub():
    def model_of(**more):
        return DinoVisionTransformer(img_size=126, patch_size=14, depth=2, mlp_ratio=2, init_values=1.0, **more)

    names = {k for k in model_of(embed_dim=64, num_heads=1, block_chunks=2).state_dict() if "norm1.weight" in k}
    assert names == {"blocks.0.0.norm1.weight", "blocks.1.1.norm1.weight"}, names

    tokens = lambda x: model.forward_features(x)["x_norm_patchtokens"]
    model = randomise(model_of(embed_dim=64, num_heads=1), 4)
    save_file(half(model.state_dict()), os.path.join(out, "hub-dinov2.safetensors"))
    model.double()
    expect("hub-dinov2.hub", tokens(repa_input("dinov2")), 8, position="hub")
    processor = BitImageProcessorPil(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, **imagenet)
    expect("hub-dinov2.huggingface", tokens(processed(processor)), 8, preprocess="huggingface")
    resampled(model, "pos_embed", 16)
    expect("hub-dinov2.repa", tokens(repa_input("dinov2")), 2)

    model = randomise(model_of(embed_dim=32, num_heads=2, ffn_layer="swiglufused", num_register_tokens=4,
                               interpolate_antialias=True, interpolate_offset=0.0), 5)
    save_file(half(model.state_dict()), os.path.join(out, "hub-dinov2-reg.safetensors"))
    model.double()
    expect("hub-dinov2-reg.huggingface", tokens(processed(processor)), 4, heads=2, preprocess="huggingface")
    resampled(model, "pos_embed", 16)
    expect("hub-dinov2-reg.repa", tokens(repa_input("dinov2")), 2, heads=2)


class Visual(nn.Module):
    """What REPA's UpdatedVisionTransformer takes of the clip package's vision transformer."""

    def __init__(self, width, layers, heads):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 14, 14, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(257, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = clip_vit.Transformer(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, 16))


@torch.no_grad()
def make_clip():
    visual = randomise(Visual(32, 2, 2), 6)
    state = {"visual." + k: v for k, v in half(visual.state_dict()).items()}
    state["logit_scale"] = torch.tensor(2.6592).half()
    save_file(state, os.path.join(out, "clip.safetensors"))
    clip_vit.LayerNorm.forward = nn.LayerNorm.forward  # its own casts to float32
    expect("clip.repa", clip_vit.UpdatedVisionTransformer(visual.double())(repa_input("clip")), 2, heads=2)


@torch.no_grad()
def make_timm():
    sizes = dict(patch_size=16, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, qkv_bias=True,
                 norm_layer=partial(nn.LayerNorm, eps=1e-6), num_classes=0)
    model = randomise(mae_vit.VisionTransformer(img_size=224, **sizes), 7)
    state = half(model.state_dict())
    save_file({"model." + k: v for k, v in state.items()}, os.path.join(out, "mae.safetensors"))
    model = mae_vit.VisionTransformer(img_size=256, **sizes).eval()
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"].float(), [16, 16])
    model.load_state_dict(state)
    expect("mae.repa", model.double().forward_features(repa_input("mae")), 2, heads=2)

    model = randomise(mocov3_vit.VisionTransformerMoCo(img_size=224, **sizes), 8)
    state = half(model.state_dict())
    saved = {"module.base_encoder." + k: v for k, v in state.items()}
    saved["module.base_encoder.head.0.weight"] = torch.zeros(4, 32).half()
    saved["module.momentum_encoder.cls_token"] = torch.zeros(1, 1, 32).half()
    save_file(saved, os.path.join(out, "mocov3.safetensors"))
    model = mocov3_vit.VisionTransformerMoCo(img_size=256, **sizes).eval()
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"].float(), [16, 16])
    model.load_state_dict(state)
    expect("mocov3.repa", model.double().forward_features(repa_input("mocov3"))[:, 1:], 2, heads=2)


def make_bicubic():
    generator = torch.Generator().manual_seed(9)
    vectors = {}
    for kind in ("plain", "antialias"):
        for h, w, to_h, to_w in ((7, 9, 16, 5), (16, 16, 14, 14), (5, 6, 11, 13), (3, 1, 4, 7), (1, 256, 1, 224),
                                 (1, 40, 1, 9), (4, 4, 4, 4)):
            x = torch.randn(1, 2, h, w, generator=generator)
            y = F.interpolate(x, (to_h, to_w), mode="bicubic", antialias=kind == "antialias")
            name = f"{kind}.{h}x{w}.{to_h}x{to_w}"
            vectors[name + ".in"] = x[0].permute(1, 2, 0).contiguous()
            vectors[name + ".out"] = y[0].permute(1, 2, 0).contiguous()
    for side, grid in ((37, 16), (37, 32), (9, 16), (14, 16), (16, 14), (5, 5)):
        table = torch.randn(1, 1 + side * side, 2, generator=generator)
        hub = DinoVisionTransformer(img_size=14 * side, patch_size=14, embed_dim=2, depth=1, num_heads=1, mlp_ratio=1)
        hf = Dinov2Model(Dinov2Config(hidden_size=2, num_hidden_layers=1, num_attention_heads=1, image_size=14 * side,
                                      patch_size=14))
        hub.pos_embed.data = hf.embeddings.position_embeddings.data = table
        dummy = torch.zeros(1, 1 + grid * grid, 2)
        with torch.no_grad():
            tables = dict(hub=hub.interpolate_pos_encoding(dummy, 14 * grid, 14 * grid),
                          huggingface=hf.embeddings.interpolate_pos_encoding(dummy, 14 * grid, 14 * grid),
                          antialias=resample_abs_pos_embed(table, [grid, grid]))
        vectors[f"position.{side}.{grid}.in"] = table[0, 1:].contiguous()
        for rule, y in tables.items():
            assert torch.equal(y[0, 0], table[0, 0])
            vectors[f"position.{side}.{grid}.{rule}"] = y[0, 1:].clone()
    save_file(vectors, os.path.join(out, "bicubic.safetensors"))


def make_small():
    config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, image_size=56,
                          patch_size=28)
    save_folder(randomise(Dinov2Model(config), 10), "tiny-dinov2", os.path.join(here, "models"))


os.makedirs(out, exist_ok=True)
make_transformers()
make_hub()
make_clip()
make_timm()
make_bicubic()
make_small()
save_file(expected, os.path.join(out, "expected.safetensors"), metadata=said)
for folder, _, files in os.walk(out):
    for file in files:
        os.chmod(os.path.join(folder, file), 0o644)
for name, value in expected.items():
    print(name, tuple(value.shape), f"rms {value.square().mean().sqrt():.3f}", said[name])
