"""Makes ../__fixtures__/tokenizer-python.json: what Python's `tokenizers` learns from, and makes of, the sample texts.

Run with a Python that has tokenizers:  python make-tokenizer-fixture.py
"""
import json
import pathlib

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

folder = pathlib.Path(__file__).parent.parent / "__fixtures__"
texts = [(folder / name).read_text(encoding="utf-8") for name in ("lincoln-1862.txt", "moby-dick-1.txt")]
strings = [
    "Call me Ishmael.",
    "  leading and   inner spaces \n\n\tand tabs  ",
    "It's we'll they've I'm you'd don't 'TIS",
    "1862 and 3.14159, 1,000,000!",
    "naïve café — “quoted” … ½",
    "日本語のテキスト と 한국어",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 🙂",
    "aaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbb",
    "zero\u200bwidth\u00a0nbsp",
    "before<|endoftext|>after",
    "!!!???...;;;",
]
cases = []
for size, minimum in ((300, 2), (700, 2), (1200, 3)):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=minimum,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    cases.append(
        {
            "vocabularySize": size,
            "minimumCount": minimum,
            "merges": learned["merges"],
            "vocabulary": [token for token, _ in sorted(learned["vocab"].items(), key=lambda item: item[1])],
            "encodings": [{"text": text, "ids": tokenizer.encode(text).ids} for text in [*strings, *texts]]
            if size == 700
            else [{"text": text, "ids": tokenizer.encode(text).ids} for text in strings],
        }
    )
header = {"tool": "tokenizers", "version": tokenizers.__version__, "script": "test/scripts/make-tokenizer-fixture.py"}
(folder / "tokenizer-python.json").write_text(json.dumps({"header": header, "cases": cases}, ensure_ascii=True) + "\n")
