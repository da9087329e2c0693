/** @file A model measured document by document, and its routers on a text, against slow definitions. */
import { runSync } from '@moebius/core';
import { memory, readHostSync } from '@moebius/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { createTrainer, evaluate, evaluateDocuments, measureRouting, packDocuments } from '../src/index.ts';
import type { Trainer } from '../src/index.ts';
import { collect, smallConfig, smallOptions, useWorkplace } from './small-run.ts';

const place = useWorkplace();
let trainer: Trainer;
beforeAll(async () => {
  trainer = createTrainer(smallConfig(place, { duration: { steps: 3 } }), smallOptions(place));
  await collect(trainer);
}, 120_000);
afterAll(async () => {
  trainer.dispose();
});

const texts = [
  'A whale, and a second whale.',
  'Fellow citizens of the Senate',
  'x',
  'We cannot escape history. '.repeat(9),
];

function shardOf(some: readonly string[]) {
  return packDocuments(
    some.map((text, index) => ({ name: `${index}`, text })),
    trainer.dataset.tokenizer,
  );
}

describe('evaluateDocuments', () => {
  it('is evaluate, taken apart by document', async () => {
    const { model } = trainer;
    const tensors = memory().numTensors;
    const whole = await evaluate(model, shardOf(texts), { length: 16, sequences: 3 });
    const parts = await evaluateDocuments(model, shardOf(texts), { length: 16, sequences: 3 });
    expect(parts.bitsPerByte).toBeCloseTo(whole.bitsPerByte, 5);
    expect(parts).toMatchObject({
      evaluatedTokens: whole.evaluatedTokens,
      evaluatedBytes: whole.evaluatedBytes,
      documents: 4,
    });
    expect(parts.byDocument.map(({ bytes }) => bytes)).toEqual(texts.map((text) => Buffer.byteLength(text)));
    for (const [index, text] of texts.entries()) {
      const alone = await evaluate(model, shardOf([text]), { length: 16 });
      expect(parts.byDocument[index]?.bitsPerByte).toBeCloseTo(alone.bitsPerByte, 4);
      expect(parts.byDocument[index]?.tokens).toBe(alone.evaluatedTokens);
    }
    expect(parts.bitsPerByteError).toBeGreaterThan(0);
    expect(memory().numTensors).toBe(tensors);
  });

  it('with a stride gives every token the context that the definition says', async () => {
    const { model } = trainer;
    const [length, stride] = [12, 5];
    const shard = shardOf(texts);
    const measured = await evaluateDocuments(model, shard, { length, stride, sequences: 2 });
    const expected = texts.map((_, document) => {
      const begin = shard.starts[document] ?? 0;
      const size = (shard.starts[document + 1] ?? 0) - begin - 1;
      let nats = 0;
      for (let token = 0; token < size; token++) {
        const rest = token - length;
        const end = token < length ? length : length + stride * (Math.floor(rest / stride) + 1);
        nats += lossAt(begin, { token, first: end - length });
      }
      return nats / size;
    });
    for (const [document, loss] of expected.entries()) {
      expect(measured.byDocument[document]?.loss).toBeCloseTo(loss, 4);
    }
    const rough = await evaluateDocuments(model, shard, { length });
    expect(measured.byDocument[3]?.loss).not.toBeCloseTo(rough.byDocument[3]?.loss ?? NaN, 5);

    function lossAt(begin: number, { token, first }: { token: number; first: number }): number {
      const ids = Int32Array.from(shard.tokens.subarray(begin + first, begin + token + 1));
      const targets = new Int32Array(ids.length).fill(-1);
      targets[ids.length - 1] = shard.tokens[begin + token + 1] ?? -1;
      return runSync(model.loss({ ids, targets }, { training: false, balance: [] })).crossEntropy;
    }
  });

  it('refuses a stride that leaves tokens out', async () => {
    await expect(evaluateDocuments(trainer.model, shardOf(texts), { length: 8, stride: 9 })).rejects.toThrow(
      "stride: must be a whole number from 1 to the window's 8 tokens, got 9 (half the window is usual)",
    );
  });
});

describe('measureRouting', () => {
  it('counts what the gates decide, every token once', async () => {
    const { model } = trainer;
    const shard = shardOf(texts);
    const tensors = memory().numTensors;
    const report = await measureRouting(model, shard, { length: 16, sequences: 2 });
    expect(memory().numTensors).toBe(tensors);
    expect(report.tokens).toBe(shard.tokens.length);
    expect(report.layers.map(({ layer }) => layer)).toEqual([0, 1]);
    const loads = [new Float64Array(4), new Float64Array(4)];
    let weight = 0;
    for (let start = 0; start < shard.tokens.length; start += 16) {
      const ids = Int32Array.from(shard.tokens.subarray(start, start + 16));
      const out = runSync(
        model.forward(
          { ids },
          {
            observe: (layer, { plan, scores }) => {
              plan.stats.load.forEach((count, expert) => (loads[layer]![expert]! += count));
              const row = [...readHostSync(scores)];
              for (let token = 0; layer === 1 && token < ids.length; token++) {
                const best = row.slice(token * 4, token * 4 + 4).toSorted((a, b) => b - a);
                weight += best[0]! / (best[0]! + best[1]!);
              }
            },
          },
        ),
      );
      out.hidden.dispose();
    }
    expect(report.layers.map(({ load }) => load)).toEqual(loads.map((load) => [...load]));
    expect(report.layers[1]?.topWeight).toBeCloseTo(weight / shard.tokens.length, 4);
    for (const { topWeight, gateEntropy, entropy } of report.layers) {
      expect(topWeight).toBeGreaterThanOrEqual(0.5);
      expect(gateEntropy).toBeGreaterThan(0);
      expect(Math.max(gateEntropy, entropy, topWeight)).toBeLessThanOrEqual(1);
    }
  });

  it('takes a sample spread over a long text', async () => {
    const shard = trainer.dataset.training;
    const { tokens } = await measureRouting(trainer.model, shard, { length: 16, maximumTokens: 100 });
    expect(tokens).toBe(96);
  });
});
