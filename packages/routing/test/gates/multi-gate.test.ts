/** Line G14 of the coverage checklist: one task reduces to a dense mixture of experts. */
import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { parseGateConfig, topKRouter } from '../../src/index.ts';
import type { RouterOutput } from '../../src/index.ts';
import { multiGateRouter } from '../../src/gates/index.ts';
import { checkClose, withoutLeak } from '../../src/testing/index.ts';
import { valuesOf } from '../../src/testing/checks.ts';
import { choicesOf, run } from './one-pass.ts';
import { make } from './routers.ts';

beforeAll(async () => {
  await createEngine();
});

describe('G14: gates of several tasks', () => {
  it('one task, all experts: a dense mixture of experts', () => {
    withoutLeak('one task', () => {
      const router = make(multiGateRouter, { tasks: 1 });
      const dense = topKRouter(parseGateConfig({ experts: 6, topK: 6 }));
      const see = ({ route }: RouterOutput): [string, Float32Array] =>
        route.kind === 'pairs'
          ? [String(route.plan.source), valuesOf(route.weights)]
          : ['', new Float32Array()];
      const [one, other] = [
        run(router, 7, { options: { domain: new Int32Array(7) }, see }),
        run(dense, 7, { see }),
      ];
      expect(one[0]).toBe(other[0]);
      checkClose(one[1], other[1], 'weights');
    });
  });

  it('a task sees the shared experts and its own', () => {
    const router = make(multiGateRouter, {
      tasks: 2,
      topK: 3,
      sees: [
        [0, 1],
        [0, 2, 3, 4],
      ],
    });
    const domain = Int32Array.of(0, 1, 1, 0, 0, 1);
    const seen = run(router, 6, { options: { domain }, see: choicesOf }).split(' ');
    for (const [t, task] of domain.entries()) {
      const own = seen[t]!.split('+').map(Number);
      expect(own).toHaveLength(task === 0 ? 2 : 3);
      for (const e of own) expect(task === 0 ? [0, 1] : [0, 2, 3, 4]).toContain(e);
    }
  });
});
