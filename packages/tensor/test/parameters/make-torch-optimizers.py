"""Numbers of PyTorch's optimizers for optimizers-suite.ts.

Usage (torch 2.13): python3 make-torch-optimizers.py > __fixtures__/torch-optimizers.json
torch.optim.Muon casts to bfloat16 inside Newton-Schulz; here the cast is a copy, so that everything is float32.
"""

import json

import torch

SEED, STEPS = 7, 6
torch.Tensor.bfloat16 = torch.Tensor.clone
generator = torch.Generator().manual_seed(SEED)
shapes = {"wide": [3, 5], "tall": [7, 4], "vector": [5]}


def draw(shape):
    """Values that float32 and a short decimal both hold well."""
    return (torch.randn(shape, generator=generator) * 1000).round() / 1000


start = {name: draw(shape) for name, shape in shapes.items()}
gradients = [{name: draw(shape) for name, shape in shapes.items()} for _ in range(STEPS)]


def train(make, shrink=0.0):
    """Values after STEPS; `shrink` is decoupled decay times learning rate, which torch.optim.SGD lacks."""
    values = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    optimizers = make(values)
    for step in gradients:
        for name, value in values.items():
            value.grad = step[name].clone()
            with torch.no_grad():
                value.mul_(1 - shrink)
        for optimizer in optimizers:
            optimizer.step()
    return {name: value.flatten().tolist() for name, value in values.items()}


def sgd(**options):
    return lambda values: [torch.optim.SGD(values.values(), lr=0.1, **options)]


def muon(lr, **options):
    matrices = ("wide", "tall")
    return lambda values: [
        torch.optim.Muon([values[name] for name in matrices], lr=lr, weight_decay=0.1, **options),
        torch.optim.AdamW([values["vector"]], lr=lr, weight_decay=0.1),
    ]


cases = {
    "adamw": train(lambda values: [torch.optim.AdamW(values.values(), lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)]),
    "sgd": train(sgd()),
    "sgd-momentum": train(sgd(momentum=0.9)),
    "sgd-dampening": train(sgd(momentum=0.9, dampening=0.5)),
    "sgd-nesterov-coupled": train(sgd(momentum=0.9, nesterov=True, weight_decay=0.1)),
    "sgd-decoupled": train(sgd(momentum=0.9), shrink=0.1 * 0.1),
    "muon": train(muon(0.05, adjust_lr_fn="match_rms_adamw")),
    "muon-original": train(muon(0.02, nesterov=False, momentum=0.8, ns_steps=4)),
}
flat = lambda tensors: {name: value.flatten().tolist() for name, value in tensors.items()}
print(
    json.dumps(
        {
            "madeBy": f"make-torch-optimizers.py, torch {torch.__version__}, seed {SEED}",
            "shapes": shapes,
            "start": flat(start),
            "gradients": [flat(step) for step in gradients],
            "cases": cases,
        }
    )
)
