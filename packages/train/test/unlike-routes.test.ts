/**
 * Runs with built-in routers that are no plain token choice: routes of slots and merged experts, experts that choose tokens, fixed
 * gates. They learn, are saved and opened, are measured, generate, and say when they look ahead.
 */
import { join } from 'node:path';

import { generate, loadModel } from '@moebius/model';
import { countTensors } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { measureRouting } from '../src/index.ts';
import type { TokenShard, TrainConfigInput } from '../src/index.ts';
import { runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

/** Sixty-four tokens of no document. */
const shard: TokenShard = {
  tokens: Int32Array.from({ length: 64 }, (_, t) => t % 32),
  starts: Int32Array.of(0, 64),
  bytes: Int32Array.of(64),
  tokenBytes: null,
  vocabularySize: 32,
  tokenizerHash: 'none',
};

/** Whether it routes pairs, and whether a run is told that it looks ahead. */
const named: readonly (readonly [NonNullable<TrainConfigInput['router']>, boolean, boolean])[] = [
  [{ name: 'soft-moe', slots: 4 }, false, true],
  [{ name: 'smear', dropout: 0.1 }, false, true],
  [{ name: 'meo' }, false, true],
  [{ name: 'lory', segment: 8 }, false, false],
  [{ name: 'expert-choice' }, true, true],
  [{ name: 'mixture-of-depths', keep: 0.5 }, true, false],
  [{ name: 'base' }, true, false],
  [{ name: 'sinkhorn' }, true, false],
  [{ name: 'hash', table: 'random', hashes: 2 }, true, false],
  [{ name: 'random' }, true, false],
  [{ name: 'frozen-random', steps: 4 }, true, false],
  [{ name: 'sentence', pool: 'prefix' }, true, false],
  [{ name: 'domain', otherwise: 1 }, true, false],
  [{ name: 'multi-gate', topK: 2 }, true, false],
];

describe('a run with a router that is no plain token choice', () => {
  for (const [router, routesPairs, isAhead] of named) {
    it(`learns, is opened, measured and generates: ${router.name}`, async () => {
      const before = countTensors();
      const output = place.freshOutput();
      const events = await runToEnd(
        smallConfig(place, {
          router,
          output,
          batch: { sequences: 2, length: 32 },
          duration: { steps: 5 },
        }),
        smallOptions(place),
      );
      const steps = stepsOf(events);
      expect(steps.at(-1)?.loss).toBeLessThan(steps[0]?.loss ?? 0);
      expect(steps.every(({ routing }) => routing.length === (routesPairs ? 2 : 0))).toBe(true);
      const start = events.find(({ kind }) => kind === 'start');
      const warnings = start?.kind === 'start' ? start.warnings : [];
      if (isAhead)
        expect(warnings).toEqual([
          expect.stringMatching(`^routers of layers 0, 1 \\("${router.name}"\\): are not causal`),
        ]);
      else expect(warnings).toBe(undefined);

      const model = await loadModel(join(output, 'model'));
      const report = await measureRouting(model, shard, { length: 32, sequences: 2 });
      expect(report.layers).toHaveLength(routesPairs ? 2 : 0);
      let made = 0;
      const prompt = Int32Array.of(1, 2, 3, 4, 5);
      for await (const { token } of generate(model, prompt, { maxNewTokens: 4, stopTokens: [] }))
        made += token >= 0 ? 1 : 0;
      expect(made).toBe(4);
      model.dispose();
      expect(countTensors()).toBe(before);
    });
  }
});
