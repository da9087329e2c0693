/** Runs whose configuration names a built-in router, without a plug-in: they learn, resume bit for bit, and their folder opens. */
import { join } from 'node:path';

import { loadModel } from '@moebius/model';
import { countTensors } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import type { TrainConfigInput } from '../src/index.ts';
import { digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

const named: readonly (readonly [NonNullable<TrainConfigInput['router']>, string | null])[] = [
  [{ name: 'noisy-top-k' }, null],
  [{ name: 'loss-free', rate: 0.01 }, 'selectionBias'],
  [{ name: 'relu', lambda: 1e-3 }, 'lambda'],
  [{ name: 'adaptive-threshold' }, null],
  [{ name: 'dense-to-sparse', steps: 4 }, 'step'],
];

const parts = (
  router: NonNullable<TrainConfigInput['router']>,
  output: string,
): Partial<TrainConfigInput> => ({
  router,
  output,
  batch: { sequences: 2, length: 32, accumulation: 2 },
  duration: { steps: 4 },
});

describe('a run with a built-in router by name', () => {
  for (const [router, buffer] of named) {
    it(`learns, resumes to the same bytes, and is opened without a plug-in: ${router.name}`, async () => {
      const before = countTensors();
      const options = smallOptions(place);
      const [whole, halves] = [place.freshOutput(), place.freshOutput()];
      const straight = await runToEnd(smallConfig(place, parts(router, whole)), options);
      const stopping = new AbortController();
      const stopAt2 = {
        kind: 'callback' as const,
        name: 'stop-at-2',
        onStep: ({ step }: { readonly step: number }) => {
          if (step === 2) stopping.abort();
        },
      };
      const config = smallConfig(place, parts(router, halves));
      await runToEnd(config, { ...options, signal: stopping.signal, callbacks: [stopAt2] });
      await runToEnd(config, { ...options, existing: 'resume' });
      expect(digests(join(halves, 'model'))).toEqual(digests(join(whole, 'model')));
      expect(stepsOf(straight).at(-1)?.loss).toBeLessThan(stepsOf(straight)[0]?.loss ?? 0);

      const model = await loadModel(join(whole, 'model'));
      const { name, ...own } = router;
      expect(model.config.moebius).toMatchObject({ routers: [{ name, options: own }] });
      const buffers = model.routerState.buffers(0);
      expect(Object.keys(buffers)).toEqual(buffer === null ? [] : [buffer]);
      if (buffer !== null) expect(buffers[buffer]?.some((value) => value !== 0)).toBe(true);
      if (buffer === 'step') expect([...(buffers['step'] ?? [])]).toEqual([4]);
      if (buffer === 'lambda') expect(buffers['lambda']?.[0]).not.toBe(Math.fround(1e-3));
      model.dispose();
      expect(countTensors()).toBe(before);
    });
  }

  it('steers a ReLU router from both sides, with the sparsity loss', async () => {
    const output = place.freshOutput();
    const events = await runToEnd(
      smallConfig(place, {
        ...parts({ name: 'relu', topK: 1, lambda: 1e-5 }, output),
        losses: { balance: { sparsity: 1 } },
        duration: { steps: 120 },
      }),
      smallOptions(place),
    );
    // 4 experts and 128 tokens a step; 1 expert for each is a share of 0.25.
    const shares = stepsOf(events).map(
      ({ routing }) =>
        routing.flatMap(({ load }) => load).reduce((sum, pairs) => sum + pairs, 0) /
        (routing.length * 4 * 128),
    );
    const mean = (values: readonly number[]): number =>
      values.reduce((sum, one) => sum + one, 0) / values.length;
    const densest = Math.max(...shares);
    const sparsest = Math.min(...shares);
    // While λ is small tokens take most experts; it grows until they take too few, then falls and lets them come back.
    expect(densest).toBeGreaterThan(0.6);
    expect(sparsest).toBeLessThan(0.1);
    expect(shares.indexOf(densest)).toBeLessThan(shares.indexOf(sparsest));
    expect(mean(shares.slice(-20))).toBeGreaterThan(sparsest + 0.05);
    expect(mean(shares.slice(-20))).toBeLessThan(0.3);
  });

  it('is told what an option must be before anything is trained', async () => {
    const config = smallConfig(place, parts({ name: 'relu', lambda: -1 }, place.freshOutput()));
    await expect(runToEnd(config, smallOptions(place))).rejects.toThrow(
      'layers[0] router "relu" create: options: must be a valid configuration, got 1 fault:\n  lambda: must be at least 0, got -1',
    );
  });
});
