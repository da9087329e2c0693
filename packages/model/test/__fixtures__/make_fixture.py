"""Makes the golden fixtures of @moebius/model with Hugging Face transformers.

Tools: transformers 5.18.0, torch 2.13.0 (CPU, float32), safetensors; seeds below; deterministic.
Run from this folder:  python make_fixture.py
Each fixture is a folder written by `save_pretrained` (config.json, generation_config.json, model.safetensors) plus
  reference.json         tool versions, seed, losses, greedy continuation
  reference.safetensors  ids [B,S], targets [B,S] (next token, -1 = not counted), logits [B,S,V],
                         router_logits.L [T,E], grad.NAME for every parameter, under its per-expert file name
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

COMMON = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=40,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    moe_intermediate_size=24,
    num_experts=8,
    num_experts_per_tok=2,
    max_position_embeddings=64,
    initializer_range=0.15,
    rms_norm_eps=1e-6,
    attention_dropout=0.0,
    bos_token_id=0,
    eos_token_id=None,
    pad_token_id=None,
)

FIXTURES = {
    "qwen3-moe-mixed": dict(
        seed=4,
        config=dict(
            COMMON,
            num_hidden_layers=3,
            mlp_only_layers=[1],
            norm_topk_prob=True,
            tie_word_embeddings=False,
            router_aux_loss_coef=0.05,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
    ),
    "qwen3-moe-tied": dict(
        seed=9,
        config=dict(
            COMMON,
            num_hidden_layers=2,
            num_experts_per_tok=3,
            decoder_sparse_step=1,
            norm_topk_prob=False,
            tie_word_embeddings=True,
            router_aux_loss_coef=0.01,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
    ),
}


def per_expert(name, value, width):
    """One in-memory tensor of transformers v5 as (file name, tensor) pairs, in file orientation."""
    if name.endswith("experts.gate_up_proj"):
        base = name[: -len("gate_up_proj")]
        for e in range(value.shape[0]):
            yield f"{base}{e}.gate_proj.weight", value[e, :width].contiguous()
            yield f"{base}{e}.up_proj.weight", value[e, width:].contiguous()
    elif name.endswith("experts.down_proj"):
        base = name[: -len("down_proj")]
        for e in range(value.shape[0]):
            yield f"{base}{e}.down_proj.weight", value[e].contiguous()
    else:
        yield name, value.contiguous()


def make(folder, seed, config):
    torch.manual_seed(seed)
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**config)).to(torch.float32)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):  # ones would hide a forgotten multiplication
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
    batch, length, vocab = 2, 12, config["vocab_size"]
    ids = torch.randint(0, vocab, (batch, length))
    labels = ids.clone()
    labels[0, 3] = -100
    labels[1, 8:10] = -100
    model.train()
    out = model(input_ids=ids, labels=labels, output_router_logits=True)
    out.loss.backward()
    margin = smallest_margin(out.router_logits, config["num_experts_per_tok"])
    assert margin > 1e-4, f"near tie {margin}: choose another seed"
    tensors = {"ids": ids.to(torch.int32), "logits": out.logits.detach().contiguous()}
    targets = torch.full((batch, length), -1, dtype=torch.int32)
    targets[:, :-1] = torch.where(labels[:, 1:] == -100, -1, labels[:, 1:]).to(torch.int32)
    tensors["targets"] = targets
    sparse = [i for i in range(config["num_hidden_layers"]) if i not in config.get("mlp_only_layers", [])]
    for layer, logits in zip(sparse, out.router_logits):
        tensors[f"router_logits.{layer}"] = logits.detach().contiguous()
    for name, parameter in model.named_parameters():
        for key, value in per_expert(name, parameter.grad, config["moe_intermediate_size"]):
            tensors[f"grad.{key}"] = value.clone()
    model.eval()
    with torch.no_grad():
        greedy = model.generate(ids[:1, :5], max_new_tokens=20, do_sample=False)[0, 5:].tolist()
    aux = out.aux_loss.item()
    total = out.loss.item()
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder)
    save_file(tensors, folder / "reference.safetensors")
    saved = set(load_file(folder / "model.safetensors"))
    expected = {name[5:] for name in tensors if name.startswith("grad.")}
    assert saved == expected, (saved ^ expected)
    reference = dict(
        generated_by="make_fixture.py",
        transformers=transformers.__version__,
        torch=torch.__version__,
        seed=seed,
        loss=total,
        cross_entropy=total - config["router_aux_loss_coef"] * aux,
        router_aux_loss=aux,
        smallest_routing_margin=margin,
        greedy_prompt=ids[0, :5].tolist(),
        greedy_tokens=greedy,
        parameters=sum(p.numel() for p in model.parameters()),
    )
    (folder / "reference.json").write_text(json.dumps(reference, indent=2) + "\n")
    print(folder.name, reference, file=sys.stderr)


def smallest_margin(router_logits, k):
    """The smallest gap between the k-th and the next probability: a near tie could route differently elsewhere."""
    gaps = []
    for logits in router_logits:
        top = torch.softmax(logits, -1).topk(k + 1, -1).values
        gaps.append((top[:, k - 1] - top[:, k]).min().item())
    return min(gaps)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    for fixture, settings in FIXTURES.items():
        make(here / fixture, **settings)
