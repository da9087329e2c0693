import { runSync } from '@moebius/core';
import { Tensor, createEngine, disposeTree, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it, vi } from 'vitest';

import {
  createLocalExecutor,
  createResidentSource,
  gateForward,
  gateInference,
  gatedExpert,
  loadBalanceLoss,
  parseGateConfig,
  readStatistics,
  zLoss,
} from '../src/index.ts';
import { kitRng, randomTensor } from '../src/testing/checks.ts';
import { families } from './gate-families.ts';

beforeAll(async () => {
  await createEngine();
});

/** Device-to-host reads that a call makes through the tensor interface. */
function readsOf<T>(call: () => T): { reads: number; result: T } {
  const spy = vi.spyOn(Tensor.prototype, 'dataSync');
  try {
    const result = call();
    return { reads: spy.mock.calls.length, result };
  } finally {
    spy.mockRestore();
  }
}

describe('device-to-host reads', () => {
  it('are one for a gate in every family, none for the executor and the losses, one for the values of all losses', () => {
    for (const input of Object.values(families)) {
      const config = parseGateConfig(input);
      const rng = kitRng('reads');
      const x = randomTensor<Tensor2D>(rng.fork('x'), [6, 5]);
      const weight = randomTensor<Tensor2D>(rng.fork('weight'), [8, 5]);
      const bias = config.logitBias ? { bias: randomTensor<never>(rng.fork('bias'), [8]) } : {};
      const parameters = {
        weight,
        ...bias,
        ...(config.selectionBias ? { selectionBias: new Float32Array(8) } : {}),
      };
      const { reads, result: gate } = readsOf(() => gateForward(x, parameters, { config }));
      expect(reads).toBe(1);
      const inference = readsOf(() => gateInference(x, parameters, { config }));
      expect(inference.reads).toBe(1);

      const parts = Array.from({ length: 3 }, () => tensor2d([[1, 2, 3, 4, 5]]));
      const experts = createResidentSource({
        kinds: Array.from({ length: 8 }, () => gatedExpert()),
        read: () => ({ gate: parts[0]!, up: parts[1]!, down: parts[2]! }),
      });
      const executed = readsOf(() =>
        runSync(createLocalExecutor().forward({ layer: 0, hidden: x, route: gate.route, experts })),
      );
      expect(executed.reads).toBe(0);

      const observation = { config, plan: gate.route.plan, logits: gate.logits, scores: gate.scores };
      const losses = [loadBalanceLoss({ pooling: 'pooled' }), zLoss()];
      const statistics = readsOf(() => losses.map((loss) => loss.statistics(observation)));
      const gradients = readsOf(() =>
        losses.map((loss, i) =>
          loss.gradient(observation, { counts: [statistics.result[i]!.counts], layer: 0, scale: 1 }),
        ),
      );
      expect(statistics.reads + gradients.reads).toBe(0);
      expect(readsOf(() => readStatistics(statistics.result)).reads).toBe(1);
      disposeTree([
        x,
        parameters,
        gate,
        inference.result,
        parts,
        executed.result,
        statistics.result,
        gradients.result,
      ]);
    }
  });
});
