"""Writes golden/safetensors/every_dtype.safetensors with the format's own library.

    python make_safetensors.py

Needs torch and safetensors. Each tensor holds the bytes first, first + 1, ... so that test_safetensors.c can make
the same tensors without reading the file.
"""
import os

import torch
from safetensors.torch import save_file

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "safetensors")


def tensor(dtype, first, *shape):
    count = 1
    for dim in shape:
        count *= dim
    if dtype is torch.bool:
        return torch.tensor([i % 2 == 1 for i in range(count)]).reshape(shape)
    width = torch.empty((), dtype=dtype).element_size()
    data = bytes((first + i) % 256 for i in range(count * width))
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


tensors = {
    "zeta.f32": tensor(torch.float32, 1, 2, 3),
    "alpha.f32": tensor(torch.float32, 2, 5),
    "scalar.f64": tensor(torch.float64, 3),
    "i64": tensor(torch.int64, 4, 2),
    "u64": tensor(torch.uint64, 5, 1, 1, 2),
    "u32": tensor(torch.uint32, 6, 3),
    "i32": tensor(torch.int32, 7, 3),
    "bf16": tensor(torch.bfloat16, 8, 4),
    "f16": tensor(torch.float16, 9, 3),
    "u16": tensor(torch.uint16, 10, 2),
    "i16": tensor(torch.int16, 11, 2),
    "i8": tensor(torch.int8, 12, 3),
    "u8": tensor(torch.uint8, 13, 3),
    "flags": tensor(torch.bool, 0, 5),
    'odd "name"\n\té': tensor(torch.float32, 14, 1),
    "empty": tensor(torch.float32, 0, 0, 3),
}
save_file(tensors, os.path.join(folder, "every_dtype.safetensors"), metadata={"format": "pt"})
