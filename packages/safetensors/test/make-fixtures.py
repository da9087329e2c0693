"""Makes test/__fixtures__ with the reference library. Run: python3 packages/safetensors/test/make-fixtures.py

Needs safetensors, torch and numpy. The versions are in the metadata of the file and in the JSON beside it.
The seed is 20240408. One metadata entry only: the reference writer puts several in random order.
"""

import json
import pathlib

import safetensors
import torch
from safetensors.torch import save

HERE = pathlib.Path(__file__).parent / "__fixtures__"
TOOL = f"make-fixtures.py, safetensors {safetensors.__version__}, torch {torch.__version__.split('+')[0]}, seed 20240408"

torch.manual_seed(20240408)
codes = torch.arange(256, dtype=torch.uint8)
halves = torch.tensor([0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x7C00, 0x7E00, 0x8001, 0xFC00, 0xC000, 0x3555], dtype=torch.int32)
halves = halves.to(torch.int16)
pairs = torch.tensor([0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE], dtype=torch.uint8)

tensors = {
    "bool": torch.tensor([True, False, True]),
    "f4 pairs": pairs.view(torch.float4_e2m1fn_x2),
    "u8": codes.reshape(4, 64),
    "i8": codes.view(torch.int8),
    "f8_e5m2": codes.view(torch.float8_e5m2),
    "f8_e4m3": codes.view(torch.float8_e4m3fn),
    "f8_e8m0": codes.view(torch.float8_e8m0fnu),
    "f8_e4m3fnuz": codes.view(torch.float8_e4m3fnuz),
    "f8_e5m2fnuz": codes.view(torch.float8_e5m2fnuz),
    "i16": torch.tensor([-32768, -1, 0, 32767], dtype=torch.int16),
    "u16": torch.tensor([0, 1, 32768, 65535], dtype=torch.uint16),
    "f16": halves.view(torch.float16),
    "bf16": halves.view(torch.bfloat16),
    "i32": torch.tensor([[-2147483648, 2147483647]], dtype=torch.int32),
    "u32 small": torch.tensor([0, 7], dtype=torch.uint32),
    "u32 large": torch.tensor([0, 4294967295], dtype=torch.uint32),
    "f32 é \U0001f600": torch.randn(3, 5),
    "f32 \uffff": torch.randn(2),
    'f32 "quoted"\\\n\t\u0001\u007f': torch.randn(1),
    "f32 scalar": torch.tensor(2.5),
    "f32 empty": torch.zeros(0, 4),
    "c64": torch.tensor([1 + 2j, -3.5 + 0j], dtype=torch.complex64),
    "f64": torch.tensor([0.1, 1e300, -2.0], dtype=torch.float64),
    "i64 small": torch.tensor([-5, 2147483647], dtype=torch.int64),
    "i64 large": torch.tensor([-(2**63), 2**63 - 1], dtype=torch.int64),
    "u64": torch.tensor([0, 2**64 - 1], dtype=torch.uint64),
}


def as_text(value):
    """A number as text that JavaScript reads back: nan and infinities have no JSON form."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def expected(name, tensor):
    if tensor.dtype == torch.float4_e2m1fn_x2:
        return None
    if tensor.dtype == torch.complex64:
        return [as_text(float(part)) for part in torch.view_as_real(tensor).flatten()]
    if tensor.dtype.is_floating_point:
        return [as_text(float(value)) for value in tensor.to(torch.float64).flatten()]
    return [as_text(value) for value in tensor.flatten().tolist()]


HERE.mkdir(exist_ok=True)
(HERE / "reference.safetensors").write_bytes(save({name: tensor.clone() for name, tensor in tensors.items()}, metadata={"made by": TOOL}))
values = {name: expected(name, tensor) for name, tensor in tensors.items()}
(HERE / "reference.json").write_text(json.dumps({"made by": TOOL, "values": values}, indent=1) + "\n")
