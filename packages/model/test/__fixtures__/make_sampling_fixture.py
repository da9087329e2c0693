"""Writes sampling.json: rows of logits through the logits processors of transformers, in the order of its generate.

Made with transformers 5.18, torch 2.13 (CPU), seed 11. Run: python make_sampling_fixture.py
"""
import json
import pathlib

import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

SETTINGS = [
    {},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7, "temperature": 0.6},
    {"temperature": 1.7, "top_k": 5},
    {"top_k": 99, "top_p": 0.8},
    {"min_p": 0.15},
    {"temperature": 2.0, "min_p": 0.15},
    {"repetition_penalty": 1.5, "temperature": 0.8, "top_k": 9, "top_p": 0.9, "min_p": 0.1},
]


def processors(settings):
    if "repetition_penalty" in settings:
        yield RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"])
    if "temperature" in settings:
        yield TemperatureLogitsWarper(settings["temperature"])
    if "top_k" in settings:
        yield TopKLogitsWarper(settings["top_k"])
    if "top_p" in settings:
        yield TopPLogitsWarper(settings["top_p"])
    if "min_p" in settings:
        yield MinPLogitsWarper(settings["min_p"])


def main():
    torch.manual_seed(11)
    cases = []
    for settings in SETTINGS:
        for _ in range(3):
            logits = 3 * torch.randn(1, 24)
            history = torch.randint(0, 24, (1, 10))
            scores = logits.clone()
            for process in processors(settings):
                scores = process(history, scores)
            cases.append(
                {
                    "settings": settings,
                    "history": history[0].tolist(),
                    "logits": logits[0].tolist(),
                    "probabilities": scores.softmax(-1)[0].tolist(),
                }
            )
    text = json.dumps({"made_by": "make_sampling_fixture.py, transformers 5.18, torch 2.13, seed 11", "cases": cases})
    pathlib.Path(__file__).with_name("sampling.json").write_text(text + "\n")


main()
