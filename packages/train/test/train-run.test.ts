import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { createManualClock } from '@moebius/core';
import { loadModel } from '@moebius/model';
import { memory } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import {
  createBigramCounts,
  createTrainer,
  defineCallback,
  evaluate,
  generateText,
  readTokenizer,
} from '../src/index.ts';
import type { TrainEvent } from '../src/index.ts';
import { tokenUnigramBits } from '../src/evaluation/baselines.ts';
import { collect, digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

describe('a run', () => {
  it('learns real text: below the token unigram on held-out text, and far below on the text it trains on', async () => {
    const trainer = createTrainer(smallConfig(place, { duration: { steps: 250 } }), smallOptions(place));
    const events = await collect(trainer);
    const steps = stepsOf(events);
    const { training, heldOut, tokenizer } = trainer.dataset;
    const counts = createBigramCounts(tokenizer.vocabularySize);
    counts.add(training.tokens, training.tokens.subarray(1));
    const entropy = -counts.targets.reduce(
      (sum, count) => sum + (count > 0 ? (count / counts.total) * Math.log(count / counts.total) : 0),
      0,
    );
    expect(steps[0]?.loss).toBeGreaterThan(Math.log(400) - 0.3);
    const last = steps.slice(-10).reduce((sum, step) => sum + step.loss, 0) / 10;
    expect(last).toBeLessThan(entropy - 0.5);
    const end = events.at(-1);
    if (end?.kind !== 'end') throw new Error('no end');
    expect(end.evaluation?.bitsPerByte).toBeLessThan(tokenUnigramBits(counts, heldOut) - 0.2);
    expect(end.baselines?.tokenBigramSeen).toBeCloseTo(end.baselines?.tokenBigram ?? 0, 1);
    trainer.dispose();
  });

  it('keeps the number of live tensors over 50 steps, and frees everything', async () => {
    const before = memory().numTensors;
    const steps = stepsOf(
      await runToEnd(smallConfig(place, { duration: { steps: 50 } }), smallOptions(place)),
    );
    expect(new Set(steps.slice(1).map((step) => step.memory.tensors)).size).toBe(1);
    expect(new Set(steps.slice(1).map((step) => step.memory.bytes)).size).toBe(1);
    expect(memory().numTensors).toBe(before);
  });

  it('tells in order what it does', async () => {
    const output = place.freshOutput();
    const config = smallConfig(place, {
      output,
      duration: { steps: 4 },
      evaluation: { everySteps: 2, tokens: 100 },
      checkpoint: { everySteps: 2 },
    });
    const events = await runToEnd(config, smallOptions(place));
    expect(events.map((event) => (event.kind === 'prepare' ? event.stage : event.kind))).toEqual([
      'engine',
      'text',
      'tokenizer',
      'shards',
      'model',
      'start',
      'step',
      'step',
      'evaluate',
      'save',
      'step',
      'step',
      'save',
      'save',
      'evaluate',
      'end',
    ]);
    const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const records = lines.map((line) => JSON.parse(line) as { [name: string]: unknown });
    expect(records.map((record) => record['step'])).toEqual([1, 2, 2, 3, 4, 4, 4]);
    expect(records[0]).toMatchObject({ 'train/loss': stepsOf(events)[0]?.loss, 'train/tokens': 128 });
    expect(records[2]).toHaveProperty('eval/bits_per_byte');
    expect(records.at(-1)).toHaveProperty('eval/baselines');
  });

  it('is the same, byte for byte, for the same seed, and another for another seed', async () => {
    const outputsOf = async (seed: number): Promise<{ [name: string]: string }> => {
      const output = place.freshOutput();
      await runToEnd(
        smallConfig(place, { output, seed, checkpoint: { everySteps: 3 } }),
        smallOptions(place),
      );
      return digests(output);
    };
    const first = await outputsOf(1);
    expect(Object.keys(first)).toEqual(
      expect.arrayContaining([
        '/metrics.jsonl',
        '/checkpoint/state.safetensors',
        '/model/config.json',
        '/model/tokenizer.json',
      ]),
    );
    expect(await outputsOf(1)).toEqual(first);
    const other = await outputsOf(2);
    expect(other['/metrics.jsonl']).not.toBe(first['/metrics.jsonl']);
    expect(other['/model/config.json']).toBe(first['/model/config.json']);
  });

  it('trains four micro-batches of one sequence like one batch of four', async () => {
    const lossesOf = async (
      batch: { sequences: number; accumulation: number },
      over: 'step' | 'micro-batch',
    ) => {
      const losses = { loadBalance: 1, gateZ: 0.1, logitZ: 1e-3, over };
      const config = smallConfig(place, { batch: { length: 32, ...batch }, losses });
      return stepsOf(await runToEnd(config, smallOptions(place)));
    };
    const whole = await lossesOf({ sequences: 4, accumulation: 1 }, 'step');
    const parts = await lossesOf({ sequences: 1, accumulation: 4 }, 'step');
    const loose = await lossesOf({ sequences: 1, accumulation: 4 }, 'micro-batch');
    for (const [at, step] of parts.entries()) {
      expect(step.loss).toBeCloseTo(whole[at]?.loss ?? 0, 3);
      expect(step.totalLoss).toBeCloseTo(whole[at]?.totalLoss ?? 0, 3);
      expect(step.aux['load-balance']).toBeCloseTo(whole[at]?.aux['load-balance'] ?? 0, 3);
      expect(step.gradientNorm / (whole[at]?.gradientNorm ?? 1)).toBeCloseTo(1, 2);
      expect(step.tokens).toBe(whole[at]?.tokens);
    }
    expect(parts[0]?.routing[0]?.load).toEqual(whole[0]?.routing[0]?.load);
    expect(loose[0]?.aux['load-balance']).not.toBeCloseTo(whole[0]?.aux['load-balance'] ?? 0, 3);
  });

  it('saves a model folder that gives the same evaluation and text when it is loaded', async () => {
    const output = place.freshOutput();
    const trainer = createTrainer(smallConfig(place, { output }), smallOptions(place));
    const events = await collect(trainer);
    const end = events.at(-1);
    const tokenizer = await readTokenizer(join(output, 'model'));
    const model = await loadModel(join(output, 'model'));
    const again = await evaluate(model, trainer.dataset.heldOut, { length: 32, sequences: 4 });
    expect(again).toEqual(end?.kind === 'end' ? end.evaluation : undefined);
    const write = async (from: typeof model, seed: number): Promise<string> => {
      let text = '';
      for await (const piece of generateText({ model: from, tokenizer }, 'Call me', {
        maximumTokens: 20,
        seed,
      }))
        text += piece;
      return text;
    };
    expect(await write(model, 3)).toBe(await write(trainer.model, 3));
    expect(await write(model, 3)).not.toBe(await write(model, 4));
    model.dispose();
    trainer.dispose();
  });

  it('ends by the clock when it has a time budget', async () => {
    const clock = createManualClock();
    const hurry = defineCallback({ name: 'hurry', onStep: () => clock.advance(10_000) });
    const config = smallConfig(place, { duration: { minutes: 1 } });
    const steps = stepsOf(await runToEnd(config, smallOptions(place, { clock, callbacks: [hurry] })));
    expect(steps.length).toBe(7);
    expect(steps.map((step) => Math.round(step.remainingMs / 1000))).toEqual([60, 50, 40, 30, 20, 10, 0]);
    const rates = steps.slice(2).map((step) => step.learningRate);
    expect(rates).toEqual(rates.toSorted((a, b) => b - a));
    expect(rates.at(-1)).toBeLessThan(0.2 * (rates[0] ?? 0));
  });
});

describe('callbacks', () => {
  it('are called at their events, awaited, and see model and tokenizer', async () => {
    const seen: string[] = [];
    const later = (event: TrainEvent): Promise<void> =>
      new Promise((resolve) => {
        setTimeout(() => {
          seen.push(event.kind);
          resolve();
        }, 5);
      });
    const spy = defineCallback({
      name: 'spy',
      onStart: (event, { tokenizer, model }) => {
        expect(tokenizer.vocabularySize).toBe(model.config.vocab_size);
        return later(event);
      },
      onStep: later,
      onEvaluate: later,
      onSave: later,
      onEnd: later,
    });
    const config = smallConfig(place, { output: place.freshOutput(), duration: { steps: 2 } });
    await runToEnd(config, smallOptions(place, { callbacks: [spy] }));
    expect(seen).toEqual(['start', 'step', 'step', 'save', 'evaluate', 'end']);
  });

  it('must be functions', () => {
    expect(() => defineCallback({ name: 'x', onStep: 3 as never })).toThrow(
      /callback "x": onStep must be a function, got number/,
    );
  });
});
