import { createEngine, disposeTree, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { peerBackward, peerForward, productTopK } from '../../src/experimental/index.ts';
import type { PeerOptions, PeerParameters } from '../../src/experimental/index.ts';
import {
  inner,
  kitRng,
  randomTensor,
  randomValues,
  valuesOf,
  withoutLeak,
} from '../../src/testing/checks.ts';
import { checkClose, checkGradient } from '../../src/testing/index.ts';

beforeAll(async () => {
  await createEngine();
});

/** All n² sums, sorted. */
function bruteForce(row: readonly number[], keys: number, topK: number): number[] {
  const sums = Array.from({ length: keys * keys }, (_, id) => ({
    id,
    sum: row[Math.floor(id / keys)]! + row[keys + (id % keys)]!,
  }));
  return sums
    .toSorted((a, b) => b.sum - a.sum || a.id - b.id)
    .slice(0, topK)
    .map(({ id }) => id);
}

/** Numbers whose sums are exact: a rounded sum would be a tie that neither side has. */
const fraction = fc.integer({ min: -262_144, max: 262_144 }).map((value) => value / 65_536);

describe('G15: product keys', () => {
  it('find what brute force over n² sums finds, order and ties included', () => {
    const rows = fc.integer({ min: 1, max: 7 }).chain((keys) =>
      fc.record({
        keys: fc.constant(keys),
        topK: fc.integer({ min: 1, max: keys }),
        scores: fc.array(
          fc.array(fc.oneof(fc.integer({ min: -3, max: 3 }), fraction), {
            minLength: 2 * keys,
            maxLength: 2 * keys,
          }),
          { minLength: 1, maxLength: 3 },
        ),
      }),
    );
    fc.assert(
      fc.property(rows, ({ keys, topK, scores }) => {
        const found = productTopK(scores.flat(), { rows: scores.length, keys, topK });
        expect([...found]).toEqual(scores.flatMap((row) => bruteForce(row, keys, topK)));
      }),
      { numRuns: 1000 },
    );
  });
});

const [tokens, width, half, keys] = [3, 4, 2, 4];

function randomLayer(heads: number): { x: Tensor2D; parameters: PeerParameters } {
  const part = (name: string, rows: number, columns: number): Tensor2D =>
    randomTensor(kitRng(`peer ${name}`), [rows, columns]);
  return {
    x: part('x', tokens, width),
    parameters: {
      query: part('query', heads * 2 * half, width),
      leftKeys: part('left', keys, half),
      rightKeys: part('right', keys, half),
      down: part('down', keys * keys, width),
      up: part('up', keys * keys, width),
    },
  };
}

/** The layer, one number at a time, from all n² scores. */
function peerLoop(x: Float32Array, p: Record<string, Float32Array>, options: PeerOptions): number[] {
  const { heads, topK, weights = 'softmax', activation = 'relu' } = options;
  const y = Array.from(x, () => 0);
  for (let t = 0; t < tokens; t += 1) {
    const row = x.subarray(t * width, (t + 1) * width);
    for (let h = 0; h < heads; h += 1) {
      const q = Array.from({ length: 2 * half }, (_, i) => {
        const at = (h * 2 * half + i) * width;
        return inner(p['query']!.subarray(at, at + width), row);
      });
      const key = (name: string, i: number): Float32Array => p[name]!.subarray(i * half, (i + 1) * half);
      const scores = Array.from({ length: 2 * keys }, (_, i) =>
        i < keys
          ? inner(q.slice(0, half), key('leftKeys', i))
          : inner(q.slice(half), key('rightKeys', i - keys)),
      );
      const chosen = bruteForce(scores, keys, topK);
      const sums = chosen.map((id) => scores[Math.floor(id / keys)]! + scores[keys + (id % keys)]!);
      const total = sums.reduce((sum, value) => sum + Math.exp(value), 0);
      for (const [i, id] of chosen.entries()) {
        const pre = inner(p['down']!.subarray(id * width, (id + 1) * width), row);
        const act = activation === 'relu' ? Math.max(0, pre) : pre / (1 + Math.exp(-pre));
        const w = weights === 'softmax' ? Math.exp(sums[i]!) / total : 1 / (1 + Math.exp(-sums[i]!));
        for (let d = 0; d < width; d += 1) y[t * width + d]! += w * act * p['up']![id * width + d]!;
      }
    }
  }
  return y;
}

describe('PEER layer', () => {
  const settings: readonly PeerOptions[] = [
    { heads: 2, topK: 3 },
    { heads: 1, topK: 2, weights: 'sigmoid', activation: 'silu' },
    { heads: 3, topK: 1, activation: 'silu' },
  ];
  for (const options of settings) {
    it(`equals a loop over all experts, ${JSON.stringify(options)}`, () => {
      withoutLeak('peer', () => {
        const layer = randomLayer(options.heads);
        const { value, saved } = peerForward(layer.x, layer.parameters, options);
        const host = Object.fromEntries(
          Object.entries(layer.parameters).map(([name, tensor]) => [name, valuesOf(tensor as Tensor2D)]),
        );
        checkClose(valuesOf(value), peerLoop(valuesOf(layer.x), host, options), 'y', {
          relative: 1e-4,
          absolute: 1e-5,
        });
        disposeTree([layer, value, saved]);
      });
    });

    it(`has the gradients of its forward while the choice stays, ${JSON.stringify(options)}`, () => {
      withoutLeak('peer gradients', () => checkPeer(options));
    });
  }

  it('refuses more choices than keys, wrong tables and NaN', () => {
    withoutLeak('peer faults', () => {
      const layer = randomLayer(1);
      const run = (options: PeerOptions, x = layer.x, parameters = layer.parameters): unknown =>
        peerForward(x, parameters, options);
      expect(() => run({ heads: 1, topK: 5 })).toThrow(
        'peer.topK: must be an integer from 1 to the 4 keys of a half, got 5',
      );
      const short = tensor2d([[1, 2, 3, 4]]);
      expect(() => run({ heads: 1, topK: 1 }, layer.x, { ...layer.parameters, up: short })).toThrow(
        'peer up: E (axis 0) must be 16, got 1 in [1, 4] for [E, D]',
      );
      const bad = tensor2d([
        [0, 0, 0, 0],
        [0, NaN, 0, 0],
      ]);
      expect(() => run({ heads: 1, topK: 1 }, bad)).toThrow(
        'peer: scores must be finite, got NaN for token 1 (check the hidden rows and the keys)',
      );
      disposeTree([layer, short, bad]);
    });
  });
});

function checkPeer(options: PeerOptions): void {
  const { x, parameters } = randomLayer(options.heads);
  const direction = randomValues(kitRng('dy'), x.size, 0.2);
  const dy = tensor2d(direction, x.shape);
  const { value, saved } = peerForward(x, parameters, options);
  const gradients = peerBackward(saved, dy);
  const valueAt = (rows: Tensor2D, own: PeerParameters): number => {
    const run = peerForward(rows, own, options);
    const isSame = String(run.saved.experts) === String(saved.experts);
    const total = isSame ? inner(valuesOf(run.value), direction) : NaN;
    disposeTree(run);
    return total;
  };
  const check = (subject: string, gradient: Tensor2D, at: Tensor2D, f: (moved: Tensor2D) => number): void =>
    checkGradient(valuesOf(gradient), {
      subject,
      step: 0.004,
      at: valuesOf(at),
      f: (values) => {
        const moved = tensor2d(values, at.shape);
        const total = f(moved);
        moved.dispose();
        return total;
      },
    });
  check('dx', gradients.dx, x, (moved) => valueAt(moved, parameters));
  for (const name of ['query', 'leftKeys', 'rightKeys', 'down', 'up'] as const)
    check(name, gradients.parameters[name], parameters[name], (moved) =>
      valueAt(x, { ...parameters, [name]: moved }),
    );
  disposeTree([x, parameters, dy, value, saved, gradients]);
}
