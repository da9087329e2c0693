import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { balancedAssignment } from './balanced-assignment.kernel.ts';

/** Every way to give tokens to experts so that loads differ by at most one; the best sum. */
function bestSum(scores: ArrayLike<number>, experts: number): number {
  const tokens = scores.length / experts;
  const [floor, extras] = [Math.floor(tokens / experts), tokens % experts];
  const load = new Int32Array(experts);
  const search = (t: number, above: number): number => {
    if (t === tokens) return load.every((count) => count >= floor) ? 0 : -Infinity;
    let best = -Infinity;
    for (let e = 0; e < experts; e += 1) {
      const over = load[e]! >= floor ? 1 : 0;
      if (load[e]! > floor || above + over > extras) continue;
      load[e]! += 1;
      best = Math.max(best, scores[t * experts + e]! + search(t + 1, above + over));
      load[e]! -= 1;
    }
    return best;
  };
  return search(0, 0);
}

function sumOf(scores: ArrayLike<number>, owner: Int32Array, experts: number): number {
  return owner.reduce((sum, e, t) => sum + scores[t * experts + e]!, 0);
}

function loadsOf(owner: Int32Array, experts: number): number[] {
  return Array.from({ length: experts }, (_, e) => owner.filter((own) => own === e).length);
}

const number = fc.double({ min: -5, max: 5, noNaN: true });
const small = fc
  .tuple(fc.integer({ min: 0, max: 8 }), fc.integer({ min: 1, max: 4 }))
  .chain(([tokens, experts]) =>
    fc.record({
      experts: fc.constant(experts),
      scores: fc.array(fc.oneof(number, fc.integer({ min: -2, max: 2 })), {
        minLength: tokens * experts,
        maxLength: tokens * experts,
      }),
    }),
  );

describe('balancedAssignment', () => {
  it('finds the optimum of six tokens and three experts (brute force over all 90 balanced assignments)', () => {
    fc.assert(
      fc.property(fc.array(number, { minLength: 18, maxLength: 18 }), (scores) => {
        const owner = balancedAssignment(scores, 3);
        expect(loadsOf(owner, 3)).toEqual([2, 2, 2]);
        expect(sumOf(scores, owner, 3)).toBeCloseTo(bestSum(scores, 3), 9);
      }),
      { numRuns: 1000 },
    );
  });

  it('finds the optimum of any sizes and ties, with loads that differ by at most one', () => {
    fc.assert(
      fc.property(small, ({ scores, experts }) => {
        const owner = balancedAssignment(scores, experts);
        const loads = loadsOf(owner, experts);
        expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(1);
        expect(loads.reduce((a, b) => a + b, 0)).toBe(scores.length / experts);
        expect(sumOf(scores, owner, experts)).toBeCloseTo(bestSum(scores, experts), 9);
      }),
      { numRuns: 1000 },
    );
  });

  it('cannot be improved by swapping two tokens, at sizes that brute force cannot reach', () => {
    fc.assert(
      fc.property(fc.infiniteStream(number), (stream) => {
        const [tokens, experts] = [120, 8];
        const scores = Float32Array.from({ length: tokens * experts }, () => stream.next().value as number);
        const owner = balancedAssignment(scores, experts);
        expect(loadsOf(owner, experts)).toEqual(Array.from({ length: experts }, () => 15));
        for (let a = 0; a < tokens; a += 1)
          for (let b = 0; b < a; b += 1) {
            const [e, f] = [owner[a]!, owner[b]!];
            const gain =
              scores[a * experts + f]! +
              scores[b * experts + e]! -
              scores[a * experts + e]! -
              scores[b * experts + f]!;
            if (gain > 1e-5) throw new Error(`tokens ${a} and ${b} would gain ${gain}`);
          }
      }),
      { numRuns: 20 },
    );
  });

  it('balances tokens that all want one expert, and gives the same for the same', () => {
    const scores = Float64Array.from({ length: 8 * 4 }, (_, i) => (i % 4 === 2 ? 10 : 0));
    const owner = balancedAssignment(scores, 4);
    expect(loadsOf(owner, 4)).toEqual([2, 2, 2, 2]);
    expect(balancedAssignment(scores, 4)).toEqual(owner);
    expect([...balancedAssignment([], 4)]).toEqual([]);
  });
});
