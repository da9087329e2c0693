"""Numbers of torch.optim.AdamW for parameters-suite.ts. Run: python3 torch-adamw.py (torch 2.13)."""

import torch

parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.1)
for _ in range(2):
    parameter.grad = torch.tensor([0.5, -1.0, 0.25])
    optimizer.step()
print([repr(value) for value in parameter.tolist()])
