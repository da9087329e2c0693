"""Opens a folder that @moebius/model saved with Hugging Face transformers and prints what the test compares.

Usage: python open_in_transformers.py FOLDER '[[1,2,3],[4,5,6]]'
Prints one JSON line: versions, logits [B][S][V], greedy continuation of the first row, parameter count.
"""

import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

folder, ids = sys.argv[1], torch.tensor(json.loads(sys.argv[2]))
model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
model.eval()
with torch.no_grad():
    logits = model(input_ids=ids).logits
    greedy = model.generate(ids[:1], max_new_tokens=12, do_sample=False, eos_token_id=None)[0, ids.shape[1] :]
print(
    json.dumps(
        dict(
            transformers=transformers.__version__,
            missing=sorted(report["missing_keys"]),
            unexpected=sorted(report["unexpected_keys"]),
            mismatched=sorted(str(key) for key in report["mismatched_keys"]),
            parameters=sum(p.numel() for p in model.parameters()),
            logits=logits.tolist(),
            greedy=greedy.tolist(),
        )
    )
)
