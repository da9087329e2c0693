/** A run with a router and a kind of experts by name: it learns, resumes bit for bit with noise and buffers, and is saved. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { loadModel } from '@moebius/model';
import { countTensors } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { loadPlugins, parseTrainConfig } from '../src/index.ts';
import type { TrainConfigInput } from '../src/index.ts';
import { digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();
beforeAll(() => {
  mkdirSync(join(place.folder, 'plugins'));
  const source = join(import.meta.dirname, '../../routing/src/index.ts');
  const tensor = join(import.meta.dirname, '../../tensor/src/index.ts');
  writeFileSync(join(place.folder, 'plugins', 'noisy.ts'), noisyRouter(source, tensor));
});

/** The gate on hidden rows with noise, and a selection bias that follows the load: randomness and buffers together. */
function noisyRouter(routing: string, tensor: string): string {
  return `
import { defineRouter, defineRouterFactory, parseGateConfig, topKRouter } from ${JSON.stringify(routing)};
import { add, runOp, tensor2d } from ${JSON.stringify(tensor)};

export const noisy = defineRouterFactory({
  name: 'noisy',
  create: ({ experts, topK }, { noise = 0.1, rate = 0.01 }) => {
    const { gate, infer, ...base } = topKRouter(parseGateConfig({ experts, topK, selectionBias: true }));
    return defineRouter({
      ...base,
      name: 'noisy',
      trusted: false,
      forward: (x, parameters, options) => runOp('noisy', () => {
        if (options.rng === undefined) return base.forward(x, parameters, options);
        const draws = new Float32Array(x.size);
        options.rng.fillNormal(draws, { standardDeviation: noise });
        return base.forward(add(x, tensor2d(draws, x.shape)), parameters, options);
      }),
      advance: ({ selectionBias }, { load }) => {
        const mean = load.reduce((sum, pairs) => sum + pairs, 0) / load.length;
        return { selectionBias: selectionBias.map((bias, e) => bias + rate * Math.sign(mean - load[e])) };
      },
    });
  },
});
`;
}

const parts = (rest: Partial<TrainConfigInput> = {}): Partial<TrainConfigInput> => ({
  plugins: ['./noisy.ts'],
  router: { name: 'noisy', noise: 0.2 },
  expertKind: 'plain-relu-bias',
  batch: { sequences: 2, length: 32, accumulation: 2 },
  duration: { steps: 6 },
  ...rest,
});

describe('a run with a router of a plug-in', () => {
  it('stopped and resumed gives the bytes of a run that was not: noise and buffers too', async () => {
    const before = countTensors();
    const options = smallOptions(place, { pluginsFrom: join(place.folder, 'plugins') });
    const whole = place.freshOutput();
    const straight = await runToEnd(smallConfig(place, { ...parts(), output: whole }), options);
    const halves = place.freshOutput();
    const stopping = new AbortController();
    const stopAt3 = {
      kind: 'callback' as const,
      name: 'stop-at-3',
      onStep: ({ step }: { readonly step: number }) => {
        if (step === 3) stopping.abort();
      },
    };
    const config = smallConfig(place, { ...parts(), output: halves });
    await runToEnd(config, { ...options, signal: stopping.signal, callbacks: [stopAt3] });
    await runToEnd(config, { ...options, existing: 'resume' });
    const [a, b] = [digests(join(whole, 'model')), digests(join(halves, 'model'))];
    expect(a).toEqual(b);
    expect(stepsOf(straight).at(-1)?.loss).toBeLessThan(stepsOf(straight)[0]?.loss ?? 0);

    const [loaded] = await loadPlugins(['./noisy.ts'], { from: join(place.folder, 'plugins') });
    const folder = join(whole, 'model');
    await expect(loadModel(folder)).rejects.toThrow(
      'must name a router that is given (none) or built in, got "noisy"',
    );
    const model = await loadModel(folder, { plugins: [(loaded as NonNullable<typeof loaded>).plugin] });
    const bias = model.routerState.buffers(0)['selectionBias'];
    expect(bias?.some((value) => value !== 0)).toBe(true);
    expect(model.config.moebius).toMatchObject({
      routers: [{ name: 'noisy', options: { noise: 0.2 } }],
      experts: [{ name: 'plain-relu-bias' }],
    });
    model.dispose();
    expect(countTensors()).toBe(before);
  });

  it('refuses to go on with another router', async () => {
    const options = smallOptions(place, { pluginsFrom: join(place.folder, 'plugins') });
    const output = place.freshOutput();
    const saving = { output, checkpoint: { everySteps: 1 }, duration: { steps: 2 } };
    await runToEnd(smallConfig(place, parts(saving)), options);
    const other = smallConfig(place, parts({ ...saving, router: { name: 'noisy', noise: 0.3 } }));
    await expect(runToEnd(other, { ...options, existing: 'resume' })).rejects.toThrow(
      'router.noise was 0.2, is 0.3',
    );
  });

  it('reads its name from a strict object with options of its own', () => {
    const base = { model: 'folder', duration: { steps: 1 } };
    expect(parseTrainConfig({ ...base, router: { name: 'x', depth: [1] } }).router).toEqual({
      name: 'x',
      depth: [1],
    });
    expect(() => parseTrainConfig({ ...base, router: { temperature: 1 } })).toThrow(
      'router.name: must be a string, got nothing (it is required)',
    );
    expect(() => parseTrainConfig({ ...base, expertKind: '' })).toThrow('expertKind: ');
  });
});
