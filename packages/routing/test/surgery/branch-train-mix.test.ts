import { createRng } from '@moebius/core';
import { createEngine } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { gatedExpert } from '../../src/expert-kinds.ts';
import { mixBranches } from '../../src/experimental/branch-train-mix.ts';
import type { Branch } from '../../src/experimental/branch-train-mix.ts';
import { parseGateConfig } from '../../src/gate-config.ts';
import { randomExpert, randomTensor, relativeDifference, runExpert, runLayer } from './host-layers.ts';

beforeAll(async () => {
  await createEngine();
});

const kind = gatedExpert();
const size = { modelWidth: 4, hiddenWidth: 6 };

function branchOf(seed: number): Branch {
  return {
    feedForward: randomExpert(kind, size, seed),
    rest: { query: randomTensor([3, 4], `${seed} query`), norm: randomTensor([4], `${seed} norm`) },
  };
}

describe('T4 Branch-Train-MiX', () => {
  it('T4: branches that are the same give the function of each of them, and their other weights bit for bit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 7 }), fc.nat(1000), fc.nat(6), (count, seed, less) => {
        const parent = branchOf(seed);
        const gate = parseGateConfig({ experts: count, topK: Math.max(1, count - less), renormalise: true });
        const branches = Array.from({ length: count }, () => parent);
        const mixed = mixBranches(kind, branches, { gate, standardDeviation: 1, rng: createRng(seed) });
        expect(mixed.isExact).toBe(true);
        expect(mixed.rest).toEqual(parent.rest);
        const x = randomTensor([5, 4], seed);
        const got = runLayer(kind, { ...mixed, gate }, x);
        expect(relativeDifference(got, runExpert(kind, parent.feedForward, x))).toBeLessThan(2e-6);
      }),
      { numRuns: 60 },
    );
  });

  it('T4: every branch becomes an expert as it is, and the rest is the mean', () => {
    const branches = [branchOf(1), branchOf(2)];
    const gate = parseGateConfig({ experts: 2, topK: 1, renormalise: true });
    const mixed = mixBranches(kind, branches, { gate, standardDeviation: 0.02, rng: createRng(1) });
    expect(mixed.experts).toEqual(branches.map(({ feedForward }) => feedForward));
    const [a, b] = branches.map(({ rest }) => rest['query']!.data);
    expect(mixed.rest['query']?.data).toEqual(a!.map((value, at) => (value + b![at]!) / 2));
    expect(mixed.router.shape).toEqual([2, 4]);
  });

  it('says what does not fit', () => {
    const gate = parseGateConfig({ experts: 3, topK: 1, renormalise: true });
    const options = { gate, standardDeviation: 0.02, rng: createRng(1) };
    expect(() => mixBranches(kind, [branchOf(1)], options)).toThrow('branches: must be at least two, got 1');
    expect(() => mixBranches(kind, [branchOf(1), branchOf(2)], options)).toThrow(
      'gate.experts: must be the number of branches 2, got 3',
    );
    const other: Branch = {
      ...branchOf(3),
      rest: { query: randomTensor([3, 5], 1), norm: randomTensor([4], 1) },
    };
    expect(() => mixBranches(kind, [branchOf(1), branchOf(2), other], options)).toThrow(
      'branches[2]: must have the tensors of the first branch, got a difference at query [3, 4]',
    );
  });
});
