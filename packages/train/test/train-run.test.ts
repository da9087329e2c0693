import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { createManualClock } from '@moebius/core';
import { loadModel } from '@moebius/model';
import { defineBalanceLoss } from '@moebius/routing';
import { createEngine, memory, tensor1d, tensor2d } from '@moebius/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

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
import { collect, createWorkplace, runToEnd, smallConfig, smallOptions, stepsOf } from './small-run.ts';
import type { Workplace } from './small-run.ts';

let place: Workplace;
beforeAll(async () => {
  await createEngine();
  place = await createWorkplace();
});
afterAll(() => place.remove());

let outputs = 0;
const freshOutput = (): string => join(place.folder, `output-${outputs++}`);

/** SHA-256 of every file below a folder, by name. */
function digests(folder: string): { [name: string]: string } {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  const files = names.map((entry) => join(entry.parentPath, entry.name)).toSorted();
  return Object.fromEntries(
    files.map((file) => [
      file.slice(folder.length),
      createHash('sha256').update(readFileSync(file)).digest('hex'),
    ]),
  );
}

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
    const output = freshOutput();
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
      const output = freshOutput();
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
    const output = freshOutput();
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

describe('resume', () => {
  it('goes on bit for bit: same metrics, same checkpoint, same model as an uninterrupted run', async () => {
    const parts = {
      duration: { steps: 8 },
      batch: { sequences: 2, length: 32, accumulation: 2 },
      checkpoint: { everySteps: 4 },
    };
    const whole = freshOutput();
    await runToEnd(smallConfig(place, { ...parts, output: whole }), smallOptions(place));
    const stopped = freshOutput();
    const controller = new AbortController();
    const stop = defineCallback({
      name: 'stop',
      onStep: ({ step }) => (step === 5 ? controller.abort() : undefined),
    });
    const config = smallConfig(place, { ...parts, output: stopped });
    const first = await runToEnd(
      config,
      smallOptions(place, { callbacks: [stop], signal: controller.signal }),
    );
    expect(first.at(-1)).toMatchObject({ kind: 'end', reason: 'aborted', step: 5 });
    expect(existsSync(join(stopped, 'model'))).toBe(false);
    const second = await runToEnd(config, smallOptions(place, { existing: 'resume' }));
    expect(stepsOf(second).map(({ step }) => step)).toEqual([6, 7, 8]);
    expect(digests(stopped)).toEqual(digests(whole));
  });

  it('ends a run that was stopped during its last evaluation, without training again', async () => {
    const output = freshOutput();
    const config = smallConfig(place, { output, duration: { steps: 3 } });
    const controller = new AbortController();
    const stop = defineCallback({ name: 'stop', onSave: () => controller.abort() });
    const first = await runToEnd(
      config,
      smallOptions(place, { callbacks: [stop], signal: controller.signal }),
    );
    expect(first.slice(-3).map((event) => event.kind)).toEqual(['save', 'save', 'end']);
    expect(first.at(-1)).toMatchObject({ reason: 'aborted', step: 3 });
    const second = await runToEnd(config, smallOptions(place, { existing: 'resume' }));
    expect(stepsOf(second)).toEqual([]);
    expect(second.at(-1)).toMatchObject({ reason: 'finished', step: 3 });
  });

  it('drops metrics of steps that are done again', async () => {
    const output = freshOutput();
    const config = smallConfig(place, { output, checkpoint: { everySteps: 2 }, duration: { steps: 5 } });
    const fail = defineCallback({
      name: 'fail',
      onStep: ({ step }) => {
        if (step === 3) throw new Error('power failure');
      },
    });
    await expect(runToEnd(config, smallOptions(place, { callbacks: [fail] }))).rejects.toThrow(
      /callback "fail": must not throw, got "power failure" at the step event/,
    );
    writeFileSync(
      join(output, 'metrics.jsonl'),
      `${readFileSync(join(output, 'metrics.jsonl'), 'utf8')}{"step":3,"tra`,
    );
    await runToEnd(config, smallOptions(place, { existing: 'resume' }));
    const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const steps = lines
      .map((line) => JSON.parse(line) as { step: number })
      .filter((record) => 'train/loss' in record);
    expect(steps.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
  });

  it('refuses another configuration, a damaged file, and a missing one', async () => {
    const output = freshOutput();
    const config = smallConfig(place, { output, checkpoint: { everySteps: 3 } });
    await runToEnd(config, smallOptions(place));
    const resume = smallOptions(place, { existing: 'resume' });
    const before = memory().numTensors;
    await expect(runToEnd({ ...config, seed: 5, optimizer: { learningRate: 2e-2 } }, resume)).rejects.toThrow(
      /resume: must be the run that .* was saved by, got other settings: optimizer.learningRate was 0.01, is 0.02; seed was 0, is 5/,
    );
    writeFileSync(join(output, 'checkpoint', 'state.safetensors'), 'torn');
    await expect(runToEnd(config, resume)).rejects.toThrow(/state\.safetensors/);
    await expect(runToEnd({ ...config, output: freshOutput() }, resume)).rejects.toThrow(
      /resume: expected a checkpoint at /,
    );
    await expect(runToEnd({ ...config, output: null }, resume)).rejects.toThrow(
      /resume: must have an output folder/,
    );
    expect(memory().numTensors).toBe(before);
  });
});

describe('what stops a run', () => {
  it('a folder that holds another run, unless it is overwritten', async () => {
    const output = freshOutput();
    const config = smallConfig(place, { output, duration: { steps: 1 } });
    await runToEnd(config, smallOptions(place));
    await expect(runToEnd(config, smallOptions(place))).rejects.toThrow(
      /output: must be a folder without a run, got .* with metrics.jsonl, model \(resume it, overwrite it, or name another folder\)/,
    );
    const events = await runToEnd(config, smallOptions(place, { existing: 'overwrite' }));
    expect(events.at(-1)?.kind).toBe('end');
  });

  it('a number that is not finite: named with step and tensor, nothing saved over the last checkpoint', async () => {
    const output = freshOutput();
    const checkpoint = join(output, 'checkpoint', 'state.safetensors');
    let kept = Buffer.alloc(0);
    const poison = defineCallback({
      name: 'poison',
      onStep: ({ step }, { model }) => {
        if (step !== 3) return;
        kept = readFileSync(checkpoint);
        const id = 'model.layers.1.mlp.experts.2.up_proj.weight';
        const [rows = 0, columns = 0] = model.parameters.shape(id);
        const broken = tensor2d(new Float32Array(rows * columns).fill(Number.NaN), [rows, columns]);
        model.parameters.assign(id, broken);
        broken.dispose();
      },
    });
    const before = memory().numTensors;
    const config = smallConfig(place, { output, checkpoint: { everySteps: 2 } });
    await expect(runToEnd(config, smallOptions(place, { callbacks: [poison] }))).rejects.toThrow(
      /step 4: cross-entropy: must be finite, got NaN; parameter model\.layers\.1\.mlp\.experts\.2\.up_proj\.weight is not finite .*; the last checkpoint is .*state\.safetensors/,
    );
    expect(readFileSync(checkpoint).equals(kept)).toBe(true);
    expect(memory().numTensors).toBe(before);
  });

  it('a gradient that is not finite: named by its parameter', async () => {
    const poisoned = defineBalanceLoss({
      name: 'poisoned',
      statistics: () => ({ counts: new Float64Array(1), sums: tensor1d([0]) }),
      value: () => 0,
      gradient: ({ plan }, { layer }) => {
        const rows = new Float32Array(plan.tokens * plan.experts);
        if (layer === 1) rows[3] = Number.POSITIVE_INFINITY;
        return { dlogits: tensor2d(rows, [plan.tokens, plan.experts]) };
      },
    });
    const before = memory().numTensors;
    const options = smallOptions(place, { balance: [{ loss: poisoned, coefficient: 1 }] });
    await expect(runToEnd(smallConfig(place), options)).rejects.toThrow(
      /step 1: .*gradient.*model\.layers\.1\.mlp\.gate\.weight.*; no checkpoint was saved/s,
    );
    expect(memory().numTensors).toBe(before);
  });

  it('memory, before anything is allocated', async () => {
    const options = smallOptions(place, { memoryLimitBytes: 100_000 });
    await expect(runToEnd(smallConfig(place), options)).rejects.toThrow(/memory: a step must fit in 1 MiB/);
  });

  it('text shorter than a row, or the same text on both sides', async () => {
    const short = join(place.folder, 'short');
    await mkdir(short, { recursive: true });
    writeFileSync(join(short, 'a.txt'), 'too short\n');
    writeFileSync(join(short, 'b.txt'), 'also short\n');
    const data = { training: { path: short } };
    await expect(runToEnd(smallConfig(place, { data }), smallOptions(place))).rejects.toThrow(
      /training text: must have at least 33 tokens for a sequence of 32, got \d+ \(add text, or shorten batch.length\)/,
    );
    const batch = { sequences: 300, length: 32 };
    await expect(runToEnd(smallConfig(place, { batch }), smallOptions(place))).rejects.toThrow(
      /training text: must fill a step of 300 sequences of 32 tokens, got \d+ \(add text, or lower batch.sequences/,
    );
    const same = { training: { path: place.texts }, heldOut: { path: join(place.texts, 'part-3.txt') } };
    await expect(runToEnd(smallConfig(place, { data: same }), smallOptions(place))).rejects.toThrow(
      /held-out text: must not be trained on, got "part-3.txt" in both/,
    );
  });

  it('a second run of one trainer, and a model asked for too early', async () => {
    const trainer = createTrainer(smallConfig(place, { duration: { steps: 1 } }), smallOptions(place));
    expect(() => trainer.model).toThrow(/trainer: must have begun to train/);
    await collect(trainer);
    await expect(collect(trainer)).rejects.toThrow(/trainer: must run once/);
    trainer.dispose();
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
    const config = smallConfig(place, { output: freshOutput(), duration: { steps: 2 } });
    await runToEnd(config, smallOptions(place, { callbacks: [spy] }));
    expect(seen).toEqual(['start', 'step', 'step', 'save', 'evaluate', 'end']);
  });

  it('must be functions', () => {
    expect(() => defineCallback({ name: 'x', onStep: 3 as never })).toThrow(
      /callback "x": onStep must be a function, got number/,
    );
  });
});
