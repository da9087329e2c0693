import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { disposeTree, memory, readHostSync } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { createTrainer, defineCallback } from '../src/index.ts';
import type { TrainConfigInput } from '../src/index.ts';
import { collect, digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

const sections: readonly NonNullable<TrainConfigInput['optimizer']>[] = [
  { kind: 'sgd', learningRate: 0.3, momentum: 0.9, nesterov: true },
  { kind: 'muon', learningRate: 1e-2 },
  {
    learningRate: 1e-2,
    layerDecay: 0.7,
    freeze: ['@embeddings'],
    groups: [{ pattern: '@router', learningRateScale: 0.1 }],
  },
];

describe('optimizers of a run', () => {
  it.each(sections)('learn, and go on bit for bit after a stop: %j', async (optimizer) => {
    const parts = { optimizer, duration: { steps: 6 }, checkpoint: { everySteps: 3 } };
    const whole = place.freshOutput();
    const events = await runToEnd(smallConfig(place, { ...parts, output: whole }), smallOptions(place));
    const losses = stepsOf(events).map(({ loss }) => loss);
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
    const stopped = place.freshOutput();
    const controller = new AbortController();
    const stop = defineCallback({
      name: 'stop',
      onStep: ({ step }) => (step === 4 ? controller.abort() : undefined),
    });
    const config = smallConfig(place, { ...parts, output: stopped });
    await runToEnd(config, smallOptions(place, { callbacks: [stop], signal: controller.signal }));
    const before = memory().numTensors;
    await runToEnd(config, smallOptions(place, { existing: 'resume' }));
    expect(memory().numTensors).toBe(before);
    expect(digests(stopped)).toEqual(digests(whole));
  });

  it('are not changed at resume: the difference is named', async () => {
    const output = place.freshOutput();
    const parts = { output, duration: { steps: 2 }, checkpoint: { everySteps: 2 } };
    await runToEnd(smallConfig(place, { ...parts, optimizer: { learningRate: 1e-2 } }), smallOptions(place));
    const changed = smallConfig(place, {
      ...parts,
      optimizer: { kind: 'muon', learningRate: 1e-2, freeze: ['@router'] },
    });
    await expect(runToEnd(changed, smallOptions(place, { existing: 'resume' }))).rejects.toMatchObject({
      code: 'checkpoint',
      message: expect.stringMatching(
        /got other settings: optimizer\.kind was "adamw", is "muon"; optimizer\.freeze\.0 was absent, is "@router" \(restore them, or start a new run\)$/,
      ) as unknown,
    });
  });

  it('keep the bytes of what is frozen, without state or gradient norm', async () => {
    const frozen = /experts|embed/u;
    const run = async (freeze: string[]): Promise<{ moved: string[]; stateful: string[]; norm: number }> => {
      const config = smallConfig(place, {
        optimizer: { learningRate: 1e-2, freeze },
        duration: { steps: 3 },
        batch: { sequences: 2, length: 32, accumulation: 2 },
      });
      const start: { [id: string]: Float32Array } = {};
      const note = defineCallback({
        name: 'note',
        onStart: (_event, { model: { parameters } }) => {
          for (const id of parameters.ids()) start[id] = Float32Array.from(readHostSync(parameters.read(id)));
        },
      });
      const trainer = createTrainer(config, smallOptions(place, { callbacks: [note] }));
      const [first] = stepsOf(await collect(trainer));
      const { parameters } = trainer.model;
      const moved = parameters.ids().filter((id) => {
        const now = readHostSync(parameters.read(id));
        return start[id]!.some((x, i) => x !== now[i]);
      });
      const state = parameters.optimizerState();
      const stateful = Object.keys(state);
      disposeTree(state);
      trainer.dispose();
      return { moved, stateful, norm: first!.gradientNorm };
    };
    const before = memory().numTensors;
    const [part, all] = [await run(['@experts', 'embed_tokens']), await run([])];
    expect(memory().numTensors).toBe(before);
    expect(part.moved).toEqual(all.moved.filter((id) => !frozen.test(id)));
    expect(part.stateful).toEqual(part.moved);
    expect(all.moved.some((id) => frozen.test(id))).toBe(true);
    expect(part.norm).toBeLessThan(all.norm);
  });

  it('name a pattern that matches nothing before anything is trained or written', async () => {
    const output = place.freshOutput();
    const config = smallConfig(place, { output, optimizer: { freeze: ['mlp.expertz'] } });
    const before = memory().numTensors;
    await expect(runToEnd(config, smallOptions(place))).rejects.toThrow(
      /optimizer\.freeze\[0\]: must match a parameter, got "mlp\.expertz" \(nearest: model\.layers\.0\.mlp\.experts\.0\.gate_proj\.weight, /,
    );
    expect(memory().numTensors).toBe(before);
    expect(existsSync(output)).toBe(false);
  });

  it('come from plug-ins by name', async () => {
    const file = join(place.folder, 'sign-descent.js');
    const source = (name: string): string => `
      import { defineOptimizer, mul, sub, add, abs, div } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '../../tensor/src/index.ts')).href)};
      const rule = {
        name: ${JSON.stringify(name)},
        slots: [],
        update: (parts) => parts.map(({ value, gradient, lr }) =>
          ({ value: sub(value, mul(div(gradient, add(abs(gradient), 1e-9)), lr)), state: {} })),
      };
      export const mine = defineOptimizer({ name: ${JSON.stringify(name)}, weightDecay: 0, check: () => [], rules: () => () => rule });`;
    writeFileSync(file, source('sign-descent'));
    const parts = { plugins: [file], duration: { steps: 4 } };
    const config = smallConfig(place, { ...parts, optimizer: { kind: 'sign-descent', learningRate: 1e-2 } });
    const losses = stepsOf(await runToEnd(config, smallOptions(place))).map(({ loss }) => loss);
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
    const wrong = smallConfig(place, { ...parts, optimizer: { kind: 'sign-decent' } });
    await expect(runToEnd(wrong, smallOptions(place))).rejects.toThrow(
      'optimizer.kind: must name a plug-in of kind optimizer (sign-descent), got "sign-decent" (did you mean "sign-descent"?)',
    );
    const taken = join(place.folder, 'taken.js');
    writeFileSync(taken, source('sgd'));
    await expect(runToEnd(smallConfig(place, { plugins: [taken] }), smallOptions(place))).rejects.toThrow(
      /an optimizer must have a name of its own, got "sgd", which is built in \(rename it\)/,
    );
  });
});
