import { isMoebiusError } from '@moebius/core';
import { createEngine } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { planTopK } from '../../src/index.ts';
import { createLoss, quantileBias } from '../../src/losses/index.ts';
import { observe, two, valueOf } from './given-layer.ts';
import { checkLeaks } from '../leak-check.ts';

beforeAll(async () => {
  await createEngine();
});

checkLeaks();

const messageOf = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return isMoebiusError(error) ? error.message : String(error);
  }
  return 'nothing thrown';
};

describe('what is asked for wrongly', () => {
  it.each([
    [
      () => createLoss('importence'),
      'balance loss: must be a valid configuration, got 1 fault:\n  name: must be one of load-balance, first-choice-balance, device-balance, communication-balance, null-expert-balance, localized-balance, importance, load-estimate, mutual-information, sparsity, z-loss, entropy, confidence, expert-count, orthogonality, got "importence" (did you mean "importance"?)',
    ],
    [
      () => createLoss('load-balance', { pooling: 'per-sequence' }),
      'loadBalanceLoss.sequenceTokens: must be an integer of at least 1 for per-sequence, got undefined (give the sequence length)',
    ],
    [
      () => createLoss('load-estimate', { noise: 0 }),
      'balance loss: must be a valid configuration, got 1 fault:\n  noise: must be more than 0, got 0',
    ],
    [
      () => createLoss('device-balance', { devices: 2, hostOf: [0, 2] }),
      'deviceBalanceLoss.hostOf: must hold devices 0…1, got 2 (say where each expert lives)',
    ],
    [
      () => valueOf(createLoss('device-balance', { devices: 3 }), two),
      'deviceBalanceLoss.devices: must divide experts 4, got 3 (say where each expert lives)',
    ],
    [
      () => valueOf(createLoss('communication-balance', { devices: 2, hostOf: [0, 1] }), two),
      'communicationLoss.hostOf: must have 4 entries, one an expert, got 2 (say where each expert lives)',
    ],
    [
      () => valueOf(createLoss('orthogonality'), two),
      'orthogonalityLoss.parameter: must name a matrix of the router (none was passed), got "weight" (name the tensor whose rows are experts)',
    ],
    [
      () => valueOf(createLoss('localized-balance', { expertGroups: [0], sequenceTokens: 2 }), two),
      'observation.domain: must be given, one a token, got none (tell the layer which domain a token is of)',
    ],
    [
      () =>
        valueOf(createLoss('localized-balance', { expertGroups: [0], sequenceTokens: 2 }), {
          ...two,
          domain: Int32Array.of(0, 0),
        }),
      'localizedBalanceLoss.expertGroups: must have 4 entries, one an expert, got 1 (name the group of each)',
    ],
    [
      () =>
        observe(two, (observation) =>
          createLoss('importance').gradient(observation, {
            counts: [Float64Array.of(2)],
            layer: 0,
            scale: 1,
          }),
        ),
      'balance loss "importance" gradient: must be given the reduced sums of every layer, got none for layer 0 (pass sums where a loss needs them)',
    ],
  ])('%#', (call, message) => {
    expect(messageOf(call)).toBe(message);
  });
});

describe('quantile bias', () => {
  it('is minus the quantile of each column, centred', () => {
    const scores = [4, 0, 3, 0, 2, 0, 1, 8];
    // k/E = 1/2: the third of four ascending values, 3 and 0 (or the last two of 0 0 0 8: 0).
    expect([...quantileBias(scores, { experts: 2, topK: 1 })]).toEqual([-1.5, 1.5]);
    expect([...quantileBias(scores, { experts: 2, topK: 1, mask: new Uint8Array(4) })]).toEqual([0, 0]);
    expect([...quantileBias(scores, { experts: 2, topK: 1, mask: Uint8Array.of(1, 1, 0, 0) })]).toEqual([
      -2, 2,
    ]);
  });

  it('never lets the most loaded of skewed experts carry more than before', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 256, maxLength: 256 }),
        (values) => {
          const scores = values.map((value, i) => value + (i % 4 === 0 ? 2 : 0));
          const bias = quantileBias(scores, { experts: 4, topK: 1 });
          const maxLoad = (moved: ArrayLike<number>): number => {
            const ids = Int32Array.from({ length: 64 }, (_, t) => {
              const row = [0, 1, 2, 3].map((e) => scores[4 * t + e]! + moved[e]!);
              return row.indexOf(Math.max(...row));
            });
            return planTopK(ids, { tokens: 64, experts: 4, topK: 1 }).stats.maxLoad;
          };
          expect(maxLoad(new Float32Array(4))).toBe(64);
          expect(maxLoad(bias)).toBeLessThan(64);
        },
      ),
      { numRuns: 200 },
    );
  });
});
