import { createRng } from '@moebius/core';
import { createEngine } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { defineExpert } from '../../src/define-expert.ts';
import { gatedExpert, identityExpert, plainExpert } from '../../src/expert-kinds.ts';
import { joinExperts, splitExpert, takeNeurons } from '../../src/surgery/host-expert.ts';
import type { NeuronSplit } from '../../src/surgery/host-expert.ts';
import {
  clusterNeurons,
  countCoActivations,
  splitAtRandom,
  splitByCoActivation,
} from '../../src/surgery/split-neurons.ts';
import { splitInOrder } from '../../src/surgery/upcycle.ts';
import { addUp, randomExpert, randomTensor, relativeDifference, runExpert } from './host-layers.ts';

beforeAll(async () => {
  await createEngine();
});

const kinds = [gatedExpert(), plainExpert({ activation: 'relu' }), plainExpert({ bias: true })];

/** Common activations inside the groups, by counting pairs. */
function inside(counts: { data: Float32Array }, split: NeuronSplit, neurons: number): number {
  let sum = 0;
  for (const group of split)
    for (const a of group) for (const b of group) if (a !== b) sum += counts.data[a * neurons + b] ?? 0;
  return sum;
}

function symmetric(neurons: number, seed: number): { shape: number[]; data: Float32Array } {
  const data = new Float32Array(neurons * neurons);
  const rng = createRng(seed);
  for (let a = 0; a < neurons; a += 1) {
    for (let b = 0; b < a; b += 1) data[a * neurons + b] = data[b * neurons + a] = rng.integer(10);
  }
  return { shape: [neurons, neurons], data };
}

describe('T2 splitting a dense layer', () => {
  it('T2: with all experts on, the outputs of the parts add up to the dense layer, for every way to split', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...kinds),
        fc.constantFrom(1, 2, 4),
        fc.nat(1000),
        (kind, experts, seed) => {
          const dense = randomExpert(kind, { modelWidth: 5, hiddenWidth: 8 }, seed);
          const x = randomTensor([4, 5], seed + 1);
          const rng = createRng(seed);
          const splits = [
            splitInOrder(8, experts),
            splitAtRandom(8, { experts, rng }),
            clusterNeurons(dense['up']!, { experts, rng }),
            splitByCoActivation(countCoActivations(randomTensor([20, 8], seed), { share: 0.3 }), { experts }),
          ];
          const expected = runExpert(kind, dense, x);
          for (const split of splits) {
            const parts = splitExpert(kind, dense, split);
            expect(parts).toHaveLength(experts);
            const got = addUp(parts.map((part) => runExpert(kind, part, x)));
            expect(relativeDifference(got, expected)).toBeLessThan(2e-6);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('T2: every split gives each neuron to one expert, in equal numbers, ascending, and the same for the same seed', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(1000),
        (experts, width, seed) => {
          const neurons = experts * width;
          const rows = randomTensor([neurons, 3], seed);
          const counts = symmetric(neurons, seed);
          const ways = [
            () => splitInOrder(neurons, experts),
            () => splitAtRandom(neurons, { experts, rng: createRng(seed) }),
            () => clusterNeurons(rows, { experts, rng: createRng(seed) }),
            () => splitByCoActivation(counts, { experts }),
          ];
          for (const way of ways) {
            const split = way();
            expect(split.map((group) => group.length)).toEqual(Array.from({ length: experts }, () => width));
            expect(split.flatMap((group) => [...group]).toSorted((a, b) => a - b)).toEqual([
              ...Array(neurons).keys(),
            ]);
            for (const group of split) expect([...group]).toEqual([...group].toSorted((a, b) => a - b));
            expect(way()).toEqual(split);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it('joining what was split gives the dense layer back, its neurons in the order of the split', () => {
    for (const kind of kinds) {
      const dense = randomExpert(kind, { modelWidth: 3, hiddenWidth: 6 }, 1);
      const split = splitAtRandom(6, { experts: 3, rng: createRng(2) });
      const joined = joinExperts(kind, splitExpert(kind, dense, split));
      const order = split.flatMap((group) => [...group]);
      const expected = takeNeurons(kind, dense, order);
      for (const part of Object.keys(kind.parts)) {
        const got = joined[part]?.data ?? new Float32Array(0);
        expect(relativeDifference(got, expected[part]?.data ?? new Float32Array(0))).toBeLessThan(1e-6);
      }
    }
  });

  it('clusters find neurons that were planted together', () => {
    const centres = randomTensor([4, 6], 1);
    const noise = randomTensor([32, 6], 2);
    const order = Int32Array.from({ length: 32 }, (_, neuron) => neuron % 4);
    createRng(3).shuffle(order);
    const data = noise.data.map(
      (value, at) => 0.05 * value + 10 * centres.data[order[Math.floor(at / 6)]! * 6 + (at % 6)]!,
    );
    const split = clusterNeurons({ shape: [32, 6], data }, { experts: 4, rng: createRng(4) });
    for (const group of split) expect(new Set([...group].map((neuron) => order[neuron])).size).toBe(1);
  });

  it('co-activation groups find neurons that fire together', () => {
    const hidden = randomTensor([200, 12], 2).data.map((value, at) => {
      const [token, neuron] = [Math.floor(at / 12), at % 12];
      return neuron % 3 === token % 3 ? 5 + value : 0.1 * value;
    });
    const counts = countCoActivations({ shape: [200, 12], data: hidden }, { share: 1 / 3 });
    const split = splitByCoActivation(counts, { experts: 3 });
    for (const group of split) expect(new Set([...group].map((neuron) => neuron % 3)).size).toBe(1);
  });

  it('no swap of two neurons keeps more co-activation inside the groups', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 3 }),
        fc.integer({ min: 1, max: 4 }),
        fc.nat(1000),
        (experts, width, seed) => {
          const neurons = experts * width;
          const counts = symmetric(neurons, seed);
          const split = splitByCoActivation(counts, { experts });
          const best = inside(counts, split, neurons);
          for (let a = 0; a < neurons; a += 1) {
            for (let b = 0; b < a; b += 1) {
              const swapped = split.map((group) =>
                group.map((neuron) => (neuron === a ? b : neuron === b ? a : neuron)),
              );
              expect(inside(counts, swapped, neurons)).toBeLessThanOrEqual(best);
            }
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it('counts how often two neurons are among the most active of a token', () => {
    const hidden = { shape: [3, 3], data: Float32Array.of(5, -4, 1, 3, 1, -9, 2, 3, 1) };
    const { shape, data } = countCoActivations(hidden, { share: 2 / 3 });
    expect(shape).toEqual([3, 3]);
    expect([...data]).toEqual([0, 2, 1, 2, 0, 0, 1, 0, 0]);
  });

  it('says what does not fit', () => {
    const dense = randomExpert(gatedExpert(), { modelWidth: 2, hiddenWidth: 4 }, 1);
    const odd = defineExpert({
      ...gatedExpert(),
      name: 'with-scale',
      parts: { up: ['F', 'D'], scale: ['D'] },
    });
    const scaled = { up: randomTensor([4, 2], 1), scale: randomTensor([2], 2) };
    const cases: readonly (readonly [() => unknown, string])[] = [
      [
        () => splitExpert(gatedExpert(), dense, [Int32Array.of(0, 1), Int32Array.of(1, 3)]),
        'split: must give each of 4 neurons to one expert, got 4, with 1 where 2 belongs',
      ],
      [
        () => splitExpert(gatedExpert(), dense, [Int32Array.of(0, 1)]),
        'split: must give each of 4 neurons to one expert, got 2 of 4',
      ],
      [
        () => splitExpert(identityExpert(), {}, [new Int32Array(0)]),
        'kind identity: must have neurons to be cut or joined, got none',
      ],
      [
        () => splitExpert(odd, scaled, splitInOrder(4, 2)),
        'part scale of with-scale: must have a neuron axis or be an output part to be shared out, got [D] (name it in outputParts if the output is linear in it)',
      ],
      [
        () => splitExpert(odd, scaled, splitInOrder(4, 2), { outputParts: ['scales'] }),
        'outputParts: must name parts of with-scale (up, scale), got "scales"',
      ],
      [() => takeNeurons(gatedExpert(), dense, [4]), 'neuron: must be an integer below 4, got 4'],
      [() => joinExperts(gatedExpert(), []), 'experts: must be at least one, got 0'],
      [
        () =>
          joinExperts(gatedExpert(), [
            dense,
            randomExpert(gatedExpert(), { modelWidth: 3, hiddenWidth: 4 }, 1),
          ]),
        'experts[1]: must have width 2, got 3',
      ],
      [
        () => splitByCoActivation({ shape: [2, 2], data: Float32Array.of(0, 1, 2, 0) }, { experts: 2 }),
        'co-activation counts: must be symmetric, got 1 at [0, 1] and 2 at [1, 0]',
      ],
      [
        () => splitByCoActivation({ shape: [2, 3], data: new Float32Array(6) }, { experts: 2 }),
        'co-activation counts: must be square, [F, F], got [2, 3]',
      ],
      [
        () => clusterNeurons(randomTensor([5, 2], 1), { experts: 2, rng: createRng(1) }),
        'neurons: must be a multiple of the 2 experts that share them, got 5 (choose a number that divides them)',
      ],
      [
        () => countCoActivations(randomTensor([2, 2], 1), { share: 0 }),
        'share: must be above 0 and at most 1, got 0',
      ],
    ];
    for (const [call, message] of cases) expect(call).toThrow(message);
  });
});
