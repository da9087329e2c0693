import { defineBalanceLoss } from '@moebius/routing';
import type { BalanceLoss } from '@moebius/routing';
import { disposeTree, fill, memory, readHostSync, tensor1d, zeros } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { createTrainer, defineCallback } from '../src/index.ts';
import type { Callback, CallbackContext, SkipEvent, TrainEvent, TrainerOptions } from '../src/index.ts';
import { collect, digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

/** A loss that is NaN at some steps, and the callback that tells it the step. */
function nanAt(steps: readonly number[]): { loss: BalanceLoss; clock: Callback } {
  let next = 0;
  const loss = defineBalanceLoss({
    name: 'sometimes',
    statistics: () => ({ counts: new Float64Array(1), sums: tensor1d([0]) }),
    value: () => (steps.includes(next) ? NaN : 0),
    gradient: ({ plan }) => ({ dlogits: zeros([plan.tokens, plan.experts]) as Tensor2D }),
  });
  const tell = ({ step }: { readonly step: number }): void => {
    next = step + 1;
  };
  return { loss, clock: defineCallback({ name: 'clock', onStart: tell, onStep: tell, onSkip: tell }) };
}

function options(steps: readonly number[], parts: Partial<TrainerOptions> = {}): TrainerOptions {
  const { loss, clock } = nanAt(steps);
  return smallOptions(place, {
    balance: [{ loss, coefficient: 1 }],
    ...parts,
    callbacks: [clock, ...(parts.callbacks ?? [])],
  });
}

function skipsOf(events: readonly TrainEvent[]): SkipEvent[] {
  return events.filter((event) => event.kind === 'skip');
}

const skip = { onNonFinite: 'skip', maximumSkips: 2 } as const;

/** Weights and optimizer as numbers. */
function stateOf({ model }: CallbackContext): number[] {
  const states = Object.values(model.parameters.optimizerState());
  const held = states.flatMap(({ slots, step }) => [
    step,
    ...Object.values(slots).flatMap((slot) => [...readHostSync(slot)]),
  ]);
  expect(held.length).toBeGreaterThan(states.length);
  disposeTree(states.map(({ slots }) => slots));
  return [...model.parameters.ids().flatMap((id) => [...readHostSync(model.parameters.read(id))]), ...held];
}

describe('a step that is not finite, left out', () => {
  it('leaves weights, optimizer and average as they were; the data go on; it is counted and told', async () => {
    const states: number[][] = [];
    const watch = defineCallback({
      name: 'watch',
      onStep: (_, context) => void states.push(stateOf(context)),
      onSkip: (_, context) => void states.push(stateOf(context)),
    });
    const output = place.freshOutput();
    const config = smallConfig(place, {
      output,
      numerics: skip,
      ema: { decay: 0.5 },
      duration: { steps: 6 },
    });
    const events = await runToEnd(config, options([2, 4, 5], { callbacks: [watch] }));
    expect(stepsOf(events).map(({ step }) => step)).toEqual([1, 3, 6]);
    expect(skipsOf(events).map(({ step, inRow, total }) => [step, inRow, total])).toEqual([
      [2, 1, 1],
      [4, 1, 2],
      [5, 2, 3],
    ]);
    expect(skipsOf(events)[0]).toMatchObject({ layer: null, parameter: null, fraction: 2 / 6 });
    expect(skipsOf(events)[0]?.reason).toMatch(
      /^step 2: sometimes: must be finite, got NaN; every parameter is finite/,
    );
    expect(states[1]).toEqual(states[0]);
    expect(states[2]).not.toEqual(states[1]);
    expect(states[4]).toEqual(states[2]);
    expect(events.at(-1)).toMatchObject({ reason: 'finished', skippedSteps: 3, tokens: 3 * 128 });
    const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const records = lines.map((line) => JSON.parse(line) as { [name: string]: unknown });
    expect(records[1]).toMatchObject({ step: 2, 'train/skipped_steps': 1 });
    expect(records[1]).not.toHaveProperty('train/loss');
  });

  it('trains on exactly the steps that were finite', async () => {
    const trainer = createTrainer(
      smallConfig(place, {
        numerics: skip,
        duration: { steps: 3 },
        schedule: { kind: 'constant', warmupFraction: 0 },
      }),
      options([2]),
    );
    const plain = createTrainer(
      smallConfig(place, { duration: { steps: 3 }, schedule: { kind: 'constant', warmupFraction: 0 } }),
      options([]),
    );
    const skipped = stepsOf(await collect(trainer));
    const whole = stepsOf(await collect(plain));
    expect(skipped[0]?.loss).toBe(whole[0]?.loss);
    expect(skipped[1]?.step).toBe(3);
    expect(skipped[1]?.loss).not.toBe(whole[2]?.loss);
    trainer.dispose();
    plain.dispose();
  });

  it('goes on in a second session with the same bytes, and the same count', async () => {
    const parts = { numerics: skip, duration: { steps: 6 }, checkpoint: { everySteps: 1 } };
    const whole = place.freshOutput();
    const first = await runToEnd(smallConfig(place, { ...parts, output: whole }), options([2, 3, 5]));
    const twice = place.freshOutput();
    const controller = new AbortController();
    const stop = defineCallback({
      name: 'stop',
      onSkip: ({ step }) => (step === 2 ? controller.abort() : undefined),
    });
    const config = smallConfig(place, { ...parts, output: twice });
    await runToEnd(config, options([2, 3, 5], { callbacks: [stop], signal: controller.signal }));
    const second = await runToEnd(config, options([2, 3, 5], { existing: 'resume' }));
    expect(skipsOf(second).map(({ inRow, total }) => [inRow, total])).toEqual([
      [2, 2],
      [1, 3],
    ]);
    expect(second.at(-1)).toEqual(first.at(-1));
    expect(digests(twice)).toEqual(digests(whole));
  });

  it('leaks nothing', async () => {
    const before = memory().numTensors;
    const counts: number[] = [];
    const count = defineCallback({ name: 'count', onSkip: () => void counts.push(memory().numTensors) });
    const config = smallConfig(place, { numerics: { onNonFinite: 'skip' }, duration: { steps: 7 } });
    await runToEnd(config, options([2, 3, 4, 5, 6], { callbacks: [count] }));
    expect(counts).toHaveLength(5);
    expect(new Set(counts.slice(1)).size).toBe(1);
    expect(memory().numTensors).toBe(before);
  });
});

describe('too many of them in a row', () => {
  it('stop the run, saying which step, layer and parameter, and where the last checkpoint is', async () => {
    const before = memory().numTensors;
    const output = place.freshOutput();
    const poison = defineCallback({
      name: 'poison',
      onStep: ({ step }, { model }) => {
        if (step !== 3) return;
        const id = 'model.layers.0.self_attn.q_proj.weight';
        const [rows = 0, columns = 0] = model.parameters.shape(id);
        const broken = fill([rows, columns], Number.NaN);
        model.parameters.assign(id, broken);
        broken.dispose();
      },
    });
    const skipped: SkipEvent[] = [];
    const watch = defineCallback({ name: 'watch', onSkip: (event) => void skipped.push(event) });
    const config = smallConfig(place, { output, numerics: skip, checkpoint: { everySteps: 2 } });
    await expect(runToEnd(config, smallOptions(place, { callbacks: [watch, poison] }))).rejects.toThrow(
      /^numerics: must recover within 2 skipped steps, got one more in a row; step 6, layer 0: layers\[0\] gate logits of token 0: must be finite, got NaN for expert 0 .*; parameter model\.layers\.0\.self_attn\.q_proj\.weight is not finite .*; the last checkpoint is .*state\.safetensors \(step 2\)$/,
    );
    expect(skipped.map(({ step, layer, parameter }) => [step, layer, parameter])).toEqual([
      [4, 0, 'model.layers.0.self_attn.q_proj.weight'],
      [5, 0, 'model.layers.0.self_attn.q_proj.weight'],
    ]);
    expect(memory().numTensors).toBe(before);
  });

  it('are not counted when finite steps are between', async () => {
    const config = smallConfig(place, {
      numerics: { onNonFinite: 'skip', maximumSkips: 1 },
      duration: { steps: 6 },
    });
    const events = await runToEnd(config, options([2, 4, 6]));
    expect(events.at(-1)).toMatchObject({ skippedSteps: 3 });
    await expect(runToEnd(config, options([2, 4, 5]))).rejects.toThrow(
      /^numerics: must recover within 1 skipped steps, got one more in a row; step 5: sometimes: must be finite, got NaN/,
    );
  });
});
