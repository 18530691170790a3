"""Writes golden/torch: small files of torch.save, and beside each the values that a reader must find.

    python make_torch.py

Needs torch and safetensors.  NAME.expected.safetensors has the tensors of NAME.pt under the names that dicts within
dicts join to; where the value of a tensor is not read (complex numbers), it is left out.
"""
import argparse
import collections
import os
import shutil
import zipfile

import torch
from safetensors.torch import load_file, save_file

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch")
os.makedirs(folder, exist_ok=True)
torch.manual_seed(4)


def flatten(value, name=""):
    """The tensors in dicts and lists by their joined names."""
    if isinstance(value, torch.Tensor):
        return {name: value.detach()}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    found = {}
    for key, item in items:
        if isinstance(key, (str, int)):
            found.update(flatten(item, f"{name}.{key}" if name else str(key)))
    return found


def save(tensors, path, **how):
    save_file(tensors, path, **how)
    os.chmod(path, 0o644)  # the library makes files that others cannot read


def write(name, value, expected=None, **how):
    torch.save(value, os.path.join(folder, name + ".pt"), **how)
    tensors = flatten(value) if expected is None else expected
    tensors = {key: t.contiguous().clone() for key, t in tensors.items() if not t.is_complex()}
    save(tensors, os.path.join(folder, name + ".expected.safetensors"))


def network():
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.GELU(), torch.nn.Linear(5, 2))


# A state_dict: an OrderedDict with _metadata.
plain = network().state_dict()
write("flat", plain)
write("legacy", plain, _use_new_zipfile_serialization=False)

# Parameters, and buffers of every dtype.
every = {
    "parameter": torch.nn.Parameter(torch.randn(2, 3)),
    "f64": torch.randn(3, dtype=torch.float64),
    "f16": torch.randn(2, 2).half(),
    "bf16": torch.randn(7).bfloat16(),
    "i64": torch.tensor([-(2**62), 0, 2**62 + 1]),
    "i32": torch.tensor([-5, 2**31 - 1], dtype=torch.int32),
    "i16": torch.tensor([-300, 300], dtype=torch.int16),
    "i8": torch.tensor([-128, 127], dtype=torch.int8),
    "u8": torch.tensor([0, 255], dtype=torch.uint8),
    "flag": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 4),
    "complex": torch.randn(2, dtype=torch.complex64),
    "w\u00e9ight": torch.randn(1),
    "note": "a text", "number": 2**70, "pi": 3.14, "nothing": None, "set": {1, 2}, "bytes": b"\x00\xff",
}
write("dtypes", every)
write("dtypes_legacy", every, _use_new_zipfile_serialization=False)

# Several tensors on one storage: offsets, strides, transposes, broadcasts.
base = torch.arange(24, dtype=torch.float32)
shared = {
    "whole": base.view(4, 6),
    "transposed": base.view(4, 6).t(),
    "slice": base.view(4, 6)[1:3, 2:5],
    "permuted": base.view(2, 3, 4).permute(2, 0, 1),
    "tail": base[20:],
    "stepped": base[1::5],
    "row": base.view(4, 6)[2],
    "broadcast": base[3:5].expand(3, 2),
    "one": base[7:8].expand(1, 1),
    "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "tied": base.view(4, 6),
}
write("shared", shared)
write("shared_legacy", shared, _use_new_zipfile_serialization=False)

# A training checkpoint as SiT and REPA write it: model, average, AdamW's state, arguments.
model, ema = network(), network()
opt = torch.optim.AdamW(model.parameters(), lr=1e-4)
model(torch.randn(4, 3)).sum().backward()
opt.step()
arguments = argparse.Namespace(model="SiT-XL/2", resolution=256, lr=1e-4, path=None, sizes=[1, 2, (3, 4)], deep={"a": {"b": True}})
checkpoint = {"model": model.state_dict(), "ema": ema.state_dict(), "opt": opt.state_dict(), "args": arguments, "steps": 400000}
write("checkpoint", checkpoint)
write("checkpoint_legacy", checkpoint, _use_new_zipfile_serialization=False)

# State dicts some levels down, in lists and under numbers, with objects of unknown classes between.
write("nested", {"state": {"net": {0: plain, 1: {"inner": collections.OrderedDict(plain)}}}, "many": [torch.ones(2), {"x": torch.zeros(1)}],
                 "counts": collections.Counter("aab"), "default": collections.defaultdict(int, {"k": 1}), "device": torch.device("cpu"), "dtype": torch.float16})

# More than 1000 items: SETITEMS comes in parts, and the memo outgrows one byte.
write("many", {f"layer.{i}": torch.full((1,), float(i)) for i in range(1100)})

# The tiny BERT as transformers wrote weights before safetensors: pytorch_model.bin.
torch.save(load_file(os.path.join(os.path.dirname(folder), "models", "tiny-bert", "model.safetensors")), os.path.join(folder, "tiny-bert.bin"))

# Seeds of the fuzz targets: pickles by themselves, and indexes.
seeds = os.path.join(os.path.dirname(folder), "pickle", "seeds")
os.makedirs(seeds, exist_ok=True)
for name in ("flat", "dtypes", "shared", "checkpoint", "nested"):
    with zipfile.ZipFile(os.path.join(folder, name + ".pt")) as archive, open(os.path.join(seeds, name), "wb") as f:
        f.write(archive.read(name + "/data.pkl"))

# What is refused: no tensors by name, the module itself, a protocol that torch.save does not use by itself.
torch.save({"steps": 3}, os.path.join(folder, "nothing.pt"))
torch.save(torch.ones(3), os.path.join(folder, "bare.pt"))
torch.save(plain, os.path.join(folder, "protocol4.pt"), pickle_protocol=4)
torch.jit.script(network()).save(os.path.join(folder, "script.pt"))

# A tensor that repeats its storage beyond all bounds.
torch.save({"huge": torch.zeros(1).expand(1 << 20, 1 << 20)}, os.path.join(folder, "huge.pt"))

# Names that meet, a dict that holds itself, and dicts that repeat each other a million times.
torch.save({"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}}, os.path.join(folder, "twice.pt"))
ring = {"weight": torch.ones(1)}
ring["again"] = ring
torch.save(ring, os.path.join(folder, "ring.pt"))
tree = {"weight": torch.ones(1)}
for _ in range(20):
    tree = {"x": tree, "y": tree}
torch.save(tree, os.path.join(folder, "tree.pt"))
# The same in breadth: 90,000 values in few bytes.
torch.save({"weight": torch.ones(1), "x": [(None,) * 300] * 300}, os.path.join(folder, "leaves.pt"))

# A model in two files.
sharded = os.path.join(folder, "sharded")
os.makedirs(sharded, exist_ok=True)
first = {key: t for key, t in plain.items() if key.startswith("0.")}
second = {key: t for key, t in plain.items() if key.startswith("2.")}
save(first, os.path.join(sharded, "model-00001-of-00002.safetensors"), metadata={"format": "pt"})
save(second, os.path.join(sharded, "model-00002-of-00002.safetensors"), metadata={"format": "pt"})
with open(os.path.join(sharded, "model.safetensors.index.json"), "w") as f:
    f.write('{"metadata": {"total_size": 128}, "weight_map": {\n')
    f.write(",\n".join(f'  "{key}": "model-0000{1 if key in first else 2}-of-00002.safetensors"' for key in plain))
    f.write("\n}}\n")

seeds = os.path.join(os.path.dirname(folder), "index", "seeds")
os.makedirs(seeds, exist_ok=True)
shutil.copyfile(os.path.join(sharded, "model.safetensors.index.json"), os.path.join(seeds, "two"))
with open(os.path.join(seeds, "odd"), "w") as f:
    f.write('{"weight_map":{"a":"../x","b":"y","c":"y","b":"z","d":1,"\\u00e9":"w.safetensors"}}')
