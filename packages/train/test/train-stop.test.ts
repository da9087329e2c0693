import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { defineBalanceLoss } from '@moebius/routing';
import { memory, tensor1d, tensor2d } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { createTrainer, defineCallback } from '../src/index.ts';
import { collect, digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

describe('resume', () => {
  it('goes on bit for bit: same metrics, same checkpoint, same model as an uninterrupted run', async () => {
    const parts = {
      duration: { steps: 8 },
      batch: { sequences: 2, length: 32, accumulation: 2 },
      checkpoint: { everySteps: 4 },
    };
    const whole = place.freshOutput();
    await runToEnd(smallConfig(place, { ...parts, output: whole }), smallOptions(place));
    const stopped = place.freshOutput();
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
    const output = place.freshOutput();
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

  it('saves a run that was stopped during an evaluation in between', async () => {
    const output = place.freshOutput();
    const evaluation = { everySteps: 2, tokens: 100_000 };
    const config = smallConfig(place, { output, evaluation, duration: { steps: 6 } });
    const controller = new AbortController();
    const signal = controller.signal;
    const trainer = createTrainer(config, smallOptions(place, { signal }));
    const kinds: string[] = [];
    for await (const event of trainer.run()) {
      kinds.push(event.kind);
      // Runs between two batches of the evaluation that follows.
      if (event.kind === 'step' && event.step === 4) setImmediate(() => controller.abort());
    }
    trainer.dispose();
    expect(kinds.slice(-3)).toEqual(['step', 'save', 'end']);
    const second = await runToEnd(config, smallOptions(place, { existing: 'resume' }));
    expect(stepsOf(second).map(({ step }) => step)).toEqual([5, 6]);
  });

  it('drops metrics of steps that are done again', async () => {
    const output = place.freshOutput();
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
    const output = place.freshOutput();
    const config = smallConfig(place, { output, checkpoint: { everySteps: 3 } });
    await runToEnd(config, smallOptions(place));
    const resume = smallOptions(place, { existing: 'resume' });
    const before = memory().numTensors;
    await expect(runToEnd({ ...config, seed: 5, optimizer: { learningRate: 2e-2 } }, resume)).rejects.toThrow(
      /resume: must be the run that .* was saved by, got other settings: optimizer.learningRate was 0.01, is 0.02; seed was 0, is 5/,
    );
    writeFileSync(join(output, 'checkpoint', 'state.safetensors'), 'torn');
    await expect(runToEnd(config, resume)).rejects.toThrow(/state\.safetensors/);
    await expect(runToEnd({ ...config, output: place.freshOutput() }, resume)).rejects.toThrow(
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
    const output = place.freshOutput();
    const config = smallConfig(place, { output, duration: { steps: 1 } });
    await runToEnd(config, smallOptions(place));
    await expect(runToEnd(config, smallOptions(place))).rejects.toThrow(
      /output: must be a folder without a run, got .* with metrics.jsonl, model \(resume it, overwrite it, or name another folder\)/,
    );
    const events = await runToEnd(config, smallOptions(place, { existing: 'overwrite' }));
    expect(events.at(-1)?.kind).toBe('end');
  });

  it('a number that is not finite: named with step and tensor, nothing saved over the last checkpoint', async () => {
    const output = place.freshOutput();
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
      /^step 4, layer 1: cross-entropy: must be finite, got NaN; parameter model\.layers\.1\.mlp\.experts\.2\.up_proj\.weight is not finite .*; the last checkpoint is .*state\.safetensors \(step 2\)$/,
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
      /^step 1, layer 1: gradient of model\.layers\.1\.post_attention_layernorm\.weight and 30 that follow from it: must be finite, got NaN or infinity; every parameter is finite \(lower optimizer\.learningRate, clip harder, or leave such steps out with numerics\.onNonFinite "skip"\); no checkpoint was saved$/,
    );
    expect(memory().numTensors).toBe(before);
  });

  it('memory, before anything is allocated', async () => {
    const options = smallOptions(place, { memoryLimitBytes: 100_000 });
    await expect(runToEnd(smallConfig(place), options)).rejects.toThrow(
      /^memory: a run must fit in 1 MiB, got an estimate of \d+ MiB, \d+ of them for the process \(no batch fits: weights, moments, gradients and copies alone need \d+ MiB; make the model smaller\)$/,
    );
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
