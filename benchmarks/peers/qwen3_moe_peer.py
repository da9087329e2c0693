"""Hugging Face transformers' Qwen3-MoE as a peer: a line protocol on standard input and output.

The benchmark (src/side-by-side.ts) sends one JSON object a line and waits for one line back, so that this
process and ours take turns on the same cores. Nothing runs here between two requests.

  {"do": "create", "config": {...}, "experts": "eager" | "grouped_mm" | "batched_mm", "compile": false, "threads": 2}
                                                          one model per experts implementation; requests name it
  {"do": "train", "experts": …, "batch": B, "sequence": S, "seed": n}   forward, backward, clip, AdamW, zero_grad
  {"do": "forward", "batch": B, "sequence": S, "seed": n} no gradient
  {"do": "prefill", "sequence": S, "seed": n}
  {"do": "decode", "prompt": n, "tokens": n, "seed": n}   greedy, batch 1, KV cache
  {"do": "layer", ...}                                    one MoE block, forward and backward
Every answer carries "seconds".
"""

import json
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM  # noqa: E402
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock  # noqa: E402

state = {}  # the models in use, and the layer of the last "layer" request
models = {}  # by experts implementation: several can take turns


def create(request):
    torch.set_num_threads(request.get("threads", 2))
    torch.manual_seed(0)
    config = Qwen3MoeConfig(**request["config"])
    model = Qwen3MoeForCausalLM(config)
    model.set_experts_implementation(request.get("experts", "eager"))
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=request.get("fused", True)
    )
    compiled = torch.compile(model) if request.get("compile") else model
    models[request["experts"]] = {"model": compiled, "raw": model, "optimizer": optimizer}
    return {"parameters": sum(p.numel() for p in model.parameters())}


def token_ids(request, batch, sequence):
    generator = torch.Generator().manual_seed(request.get("seed", 0))
    vocabulary = state["raw"].config.vocab_size
    return torch.randint(0, vocabulary, (batch, sequence), generator=generator)


def train(request):
    model, optimizer = state["model"], state["optimizer"]
    model.train()
    ids = token_ids(request, request["batch"], request["sequence"] + 1)
    start = time.perf_counter()
    logits_and_loss = model(input_ids=ids[:, :-1], labels=None, output_router_logits=True)
    loss = torch.nn.functional.cross_entropy(
        logits_and_loss.logits.reshape(-1, logits_and_loss.logits.shape[-1]), ids[:, 1:].reshape(-1)
    )
    if logits_and_loss.aux_loss is not None:
        auxiliary = logits_and_loss.aux_loss
    else:
        from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

        config = state["raw"].config
        auxiliary = load_balancing_loss_func(
            logits_and_loss.router_logits, config.num_experts, config.num_experts_per_tok, None
        )
    total = loss + state["raw"].config.router_aux_loss_coef * auxiliary
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    value = float(loss.detach())
    return {"seconds": time.perf_counter() - start, "loss": value}


@torch.no_grad()
def forward(request):
    model = state["model"].eval()
    ids = token_ids(request, request["batch"], request["sequence"])
    start = time.perf_counter()
    logits = model(input_ids=ids, use_cache=False).logits
    checksum = float(logits[0, -1, 0])
    return {"seconds": time.perf_counter() - start, "checksum": checksum}


@torch.no_grad()
def prefill(request):
    model = state["model"].eval()
    ids = token_ids(request, 1, request["sequence"])
    start = time.perf_counter()
    logits = model(input_ids=ids, use_cache=True, logits_to_keep=1).logits
    checksum = float(logits[0, -1, 0])
    return {"seconds": time.perf_counter() - start, "checksum": checksum}


@torch.no_grad()
def decode(request):
    """A bare greedy loop over the KV cache: faster than generate(), so the fairer peer."""
    model = state["model"].eval()
    ids = token_ids(request, 1, request["prompt"])
    result = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    cache, token = result.past_key_values, result.logits[:, -1].argmax(-1, keepdim=True)
    produced = [int(token)]
    start = time.perf_counter()
    for _ in range(request["tokens"]):
        result = model(input_ids=token, past_key_values=cache, use_cache=True)
        token = result.logits[:, -1].argmax(-1, keepdim=True)
        produced.append(int(token))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "tokensPerSecond": request["tokens"] / seconds, "tokens": produced}


def layer(request):
    torch.set_num_threads(request.get("threads", 2))
    torch.manual_seed(0)
    key = json.dumps({k: request[k] for k in ("experts", "width", "hidden", "topK", "implementation")})
    if state.get("layer_key") != key:
        config = Qwen3MoeConfig(
            hidden_size=request["width"],
            moe_intermediate_size=request["hidden"],
            num_experts=request["experts"],
            num_experts_per_tok=request["topK"],
            norm_topk_prob=True,
        )
        config._experts_implementation = request["implementation"]
        block = Qwen3MoeSparseMoeBlock(config)
        for parameter in block.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        state["layer_key"], state["layer"] = key, block
    block = state["layer"]
    x = torch.randn(1, request["tokens"], request["width"], requires_grad=True)
    start = time.perf_counter()
    y = block(x)
    y = y[0] if isinstance(y, tuple) else y
    middle = time.perf_counter()
    y.sum().backward()
    end = time.perf_counter()
    for parameter in block.parameters():
        parameter.grad = None
    return {"seconds": end - start, "forwardSeconds": middle - start}


def versions(_request):
    return {"torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads()}


HANDLERS = {f.__name__: f for f in (create, train, forward, prefill, decode, layer, versions)}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] not in ("create", "layer", "versions"):
                state.update(models[request["experts"]])
            answer = HANDLERS[request["do"]](request)
        except Exception as error:  # the benchmark reports it and stops
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
