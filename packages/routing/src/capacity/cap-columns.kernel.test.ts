import { createRng } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { capacityPolicy } from './capacity-policy.ts';
import { parseCapacityConfig } from './capacity-config.ts';
import { planCapacity } from './plan-capacity.ts';

const length = 20_000;
const middle = length / 2;

/** Musser's sequence: the median of first, middle and last is always the second smallest, so quick-select splits off two at a time. */
function killer(): number[] {
  const values = Array.from({ length }, () => 0);
  for (let i = 1; i <= middle; i += 1) {
    if (i % 2 === 1) {
      values[i - 1] = i;
      values[i] = middle + i;
    }
    values[middle + i - 1] = 2 * i;
  }
  return values;
}

const rng = createRng('columns');
const patterns: Record<string, number[]> = {
  ascending: Array.from({ length }, (_, i) => i),
  descending: Array.from({ length }, (_, i) => -i),
  'organ pipe': Array.from({ length }, (_, i) => Math.min(i, length - i)),
  'all equal': Array.from({ length }, () => 1),
  'three values': Array.from({ length }, () => rng.integer(3)),
  random: Array.from({ length }, () => rng.uniform()),
  'median-of-three killer': killer(),
  'median-of-three killer, reversed': killer().toReversed(),
  'median-of-three killer, negative': killer().map((value) => -value),
};

describe('one long column', () => {
  for (const [title, scores] of Object.entries(patterns)) {
    it(`keeps what a sort keeps: ${title}`, () => {
      const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b);
      for (const share of [1 / length, 0.01, 0.5, 0.99]) {
        const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: share }));
        const { token } = planCapacity(Float64Array.from(scores), { experts: 1, topK: 1, policy });
        const expected = order.slice(0, Math.round(share * length)).sort((a, b) => a - b);
        expect(String(token)).toBe(String(expected));
      }
    });
  }
});
