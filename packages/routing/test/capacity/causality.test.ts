/** @file Which policies look ahead: a change of later tokens moves pairs of earlier ones, or never does. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  capacityPolicy,
  defineCapacityPolicy,
  defineRouter,
  parseCapacityConfig,
  parseGateConfig,
  topKRouter,
  withCapacity,
} from '../../src/index.ts';
import { capacityCases, pairs, plan, settings } from './cases.ts';
import type { CapacityCase } from './cases.ts';

const placement = { devices: 2 };
const policyOf = (config: object) => capacityPolicy(parseCapacityConfig(config));
const placed = (config: object): object => ({ ...config, placement });

/** Pairs of the first half of the tokens, before and after the scores of the rest change. */
function pastPairs(given: CapacityCase, config: object): [number[], number[]] {
  const end = Math.ceil(given.tokens / 2) * given.experts;
  const later = given.scores.slice(end).reverse();
  const changed = { ...given, scores: Float32Array.from([...given.scores.slice(0, end), ...later]) };
  const past = (one: CapacityCase): number[] => pairs(plan(one, config)).filter((pair) => pair < end);
  return [past(given), past(changed)];
}

describe('a policy that says it is causal', () => {
  const free = fc.record({
    granularity: fc.constantFrom('expert', 'device'),
    expand: fc.constantFrom(null, { kind: 'local' }),
    maxPerToken: fc.constantFrom(null, 1),
  });
  it('moves no pair of an earlier token when later ones change', () => {
    fc.assert(
      fc.property(capacityCases, settings, free, (given, common, more) => {
        const config = { method: 'drop', ...common, ...more, key: 'order' };
        expect(policyOf(placed(config)).causal).toBe(true);
        const [before, after] = pastPairs(given, config);
        expect(after).toEqual(before);
      }),
      { numRuns: 1000 },
    );
  });
  it('is also one that drops nothing, by whatever key', () => {
    expect(policyOf({ method: 'drop', gamma: [Infinity, Infinity] }).causal).toBe(true);
    expect(policyOf({ method: 'drop', gamma: [Infinity, 2] }).causal).toBe(false);
  });
});

describe('a policy that says it is not', () => {
  const ahead: { readonly [name: string]: object } = {
    score: { method: 'drop', gamma: 0.75 },
    reverse: { method: 'drop', gamma: 0.75, key: 'reverse' },
    random: { method: 'drop', gamma: 0.75, key: 'random' },
    'primary first': {
      method: 'drop',
      gamma: 0.75,
      key: 'order',
      priority: 'primary-first',
      expand: { kind: 'local' },
    },
    'best first': { method: 'drop', gamma: 0.75, key: 'order', priority: 'best-first' },
    reroute: { method: 'reroute', gamma: 0.75 },
    'expert drop': { method: 'expert-drop', fraction: 0.5 },
  };
  for (const [name, config] of Object.entries(ahead)) {
    it(`looks ahead: ${name}`, () => {
      expect(policyOf(name === 'expert drop' ? config : placed(config)).causal).toBe(false);
      const moved = fc
        .sample(capacityCases, { numRuns: 300, seed: 1 })
        .filter(
          (given) =>
            JSON.stringify(pastPairs(given, config)[0]) !== JSON.stringify(pastPairs(given, config)[1]),
        );
      expect(moved.length).toBeGreaterThan(0);
    });
  }
  it('is one of a third party that does not say', () => {
    const silent = defineCapacityPolicy({ name: 'silent', plan: ({ primary }) => primary });
    expect(silent.causal).toBe(false);
  });
});

it('makes a router causal only when router and policy are', () => {
  const causal = topKRouter(parseGateConfig({ experts: 4, topK: 2 }));
  const ahead = defineRouter({ ...causal, gate: undefined as never, name: 'ahead', causal: false });
  const order = policyOf({ method: 'drop', gamma: 1, key: 'order' });
  const score = policyOf({ method: 'drop', gamma: 1 });
  expect(withCapacity(causal, order).causal).toBe(true);
  expect(withCapacity(causal, score).causal).toBe(false);
  expect(withCapacity(ahead, order).causal).toBe(false);
});
