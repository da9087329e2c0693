import { isMoebiusError } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import {
  assertPlan,
  capacityPolicy,
  parseCapacityConfig,
  parseGateConfig,
  planCapacity,
  planTopK,
  topKRouter,
  withCapacity,
} from '../../src/index.ts';

const scores = Float32Array.from({ length: 6 * 4 }, (_, i) => 1 + Math.sin(i));
const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 1 }));

function messageOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (isMoebiusError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'nothing thrown';
}

describe('bad configuration', () => {
  it('lists every fault at once', () => {
    const wrong = {
      method: 'drop',
      gamma: -1,
      rounding: 'up',
      minCapacity: 0.5,
      scope: 'rank',
      maxPerToken: 0,
      expand: { kind: 'global' },
      gama: 1,
    };
    expect(messageOf(() => parseCapacityConfig(wrong)))
      .toBe(`configuration: capacity: must be a valid configuration, got 6 faults:
  gamma: must be at least 0, got -1
  rounding: must be one of "ceil", "floor", "round", got "up"
  minCapacity: must be an integer, got 0.5
  expand.kind: must be one of "local", "top-m", got "global" (did you mean "local"?)
  maxPerToken: must be at least 1, got 0
  gama: must be a known key, got "gama" (did you mean "gamma"?)`);
  });

  it('refuses γ that is negative, NaN, text, or missing; takes integers and infinity', () => {
    const at = (gamma: unknown): string => messageOf(() => parseCapacityConfig({ method: 'drop', gamma }));
    expect(at(-0.5)).toContain('gamma: must be at least 0, got -0.5');
    expect(at(NaN)).toMatch(/gamma: must be .*, got NaN/);
    expect(at('1.5')).toMatch(/gamma: must be .*, got "1.5"/);
    expect(at(undefined)).toMatch(/gamma: must be .*, got nothing/);
    expect(at([1, -1])).toContain('gamma[1]: must be at least 0, got -1');
    expect(at([])).toMatch(/gamma: must .*1/);
    expect(parseCapacityConfig({ method: 'drop', gamma: 1 })).toMatchObject({ gamma: 1 });
    for (const gamma of [Infinity, 'infinity'])
      expect(parseCapacityConfig({ method: 'drop', gamma })).toMatchObject({ gamma: Infinity });
  });

  it('refuses settings that contradict each other', () => {
    const at = (settings: object): string =>
      messageOf(() => parseCapacityConfig({ method: 'drop', gamma: 1, ...settings }));
    const remedy = 'got null (name the devices: { devices: 8 })';
    expect(at({ scope: 'rank', placement: null })).toContain(
      `placement: must be given for scope 'rank', ${remedy}`,
    );
    expect(at({ granularity: 'device', placement: null })).toContain(
      `placement: must be given for granularity 'device', ${remedy}`,
    );
    expect(at({ expand: { kind: 'local' }, placement: null })).toContain(
      `placement: must be given for expand 'local', ${remedy}`,
    );
    expect(at({ placement: { devices: 2, hostOf: [0, 2] } })).toContain(
      'placement.hostOf[1]: must be below devices 2, got 2 (number devices from 0)',
    );
    expect(at({ expertBound: 2 })).toContain(
      "expertBound: must be null for granularity 'expert', got 2 (use granularity 'device', or a larger gamma)",
    );
  });
});

describe('bad sizes', () => {
  it('names every fault of sizes and policy at once', () => {
    const config = parseCapacityConfig({
      method: 'drop',
      gamma: 1,
      scope: 'rank',
      placement: { devices: 3 },
      expand: { kind: 'top-m', m: 5 },
      maxPerToken: 9,
    });
    const call = (): unknown =>
      planCapacity(scores, { experts: 4, topK: 5, policy: capacityPolicy(config), mask: new Uint8Array(2) });
    expect(messageOf(call)).toBe(`configuration: planCapacity: must be a valid configuration, got 5 faults:
  topK: must be an integer in 1…experts 4, got 5 (lower topK or add experts)
  mask: must have an entry for each of 6 tokens, got 2 (pass [T])
  placement.devices: must divide experts 4, got 3 (give hostOf)
  expand.m: must be at most experts 4, got 5 (lower m)
  maxPerToken: must be at most experts 4, got 9 (lower it)`);
  });

  it('refuses a placement that does not cover the experts, also behind a router', () => {
    const config = parseCapacityConfig({
      method: 'drop',
      gamma: 1,
      scope: 'rank',
      placement: { devices: 2, hostOf: [0, 1, 0] },
    });
    const router = topKRouter(parseGateConfig({ experts: 4, topK: 2 }));
    expect(messageOf(() => withCapacity(router, capacityPolicy(config)))).toBe(
      `configuration: capacity policy "token-drop": must be a valid configuration, got 1 fault:
  placement.hostOf: must cover experts 4, got 3 entries (list a device for each)`,
    );
  });

  it('refuses an empty batch, sequences that do not divide it, and lists of other lengths', () => {
    const ask = (context: object): string =>
      messageOf(() => planCapacity(scores, { experts: 4, topK: 2, policy, ...context }));
    expect(messageOf(() => planCapacity(new Float32Array(0), { experts: 4, topK: 2, policy }))).toContain(
      'scores: must hold at least 1 token, got 0 (skip the layer for an empty batch)',
    );
    expect(ask({ sequences: 4, layer: 2 })).toBe(
      'shape: layers[2] capacity sequences: must divide tokens 6, got 4 (sequences have equal length)',
    );
    expect(ask({ tokenClass: new Int32Array(5) })).toBe(
      'shape: capacity tokenClass length: must be 6, got 5 (tokens are 6, experts 4)',
    );
    const byRank = capacityPolicy(
      parseCapacityConfig({ method: 'drop', gamma: 1, scope: 'rank', placement: { devices: 2 } }),
    );
    expect(ask({ policy: byRank, deviceOf: Int32Array.of(0, 1, 2, 0, 0, 0) })).toBe(
      'data: capacity deviceOf[2]: must be in 0…1, got 2 (number devices as placement does)',
    );
    const bySequence = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 1, scope: 'sequence' }));
    expect(ask({ policy: bySequence })).toBe(
      "configuration: capacity sequences: must be given for scope 'sequence', got nothing (pass their number, or use scope 'global')",
    );
    const byLayer = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: [1, 2] }));
    expect(ask({ policy: byLayer, layer: 2 })).toBe(
      'configuration: layers[2] capacity gamma: must have an entry for this layer, got 2 entries (one for each routed layer, or one number)',
    );
  });

  it('refuses a plan with neuron prefixes', () => {
    const primary = {
      ...planTopK(Int32Array.of(0), { tokens: 1, experts: 2, topK: 1 }),
      prefix: Uint8Array.of(1),
    };
    expect(messageOf(() => policy.plan({ primary, scores: Float32Array.of(1, 0) }))).toBe(
      'plugin: capacity plan: must not have neuron prefixes, got 1 (cap first, partition afterwards)',
    );
  });
});

describe('bad scores', () => {
  it('names layer, token and expert of a NaN, an infinity, and a row of -∞', () => {
    const at = (values: readonly number[]): string => {
      const bad = scores.slice();
      bad.set(values, 3 * 4);
      return messageOf(() => planCapacity(bad, { experts: 4, topK: 2, policy, layer: 7 }));
    };
    const remedy = '(check the hidden state and the learning rate)';
    expect(at([0, NaN])).toBe(
      `numerics: layers[7] capacity scores of token 3: must be finite, got NaN for expert 1 ${remedy}`,
    );
    expect(at([Infinity])).toBe(
      `numerics: layers[7] capacity scores of token 3: must be finite, got Infinity for expert 0 ${remedy}`,
    );
    const nothing = Array.from({ length: 4 }, () => -Infinity);
    expect(at(nothing)).toBe(
      `numerics: layers[7] capacity scores of token 3: must be finite, got -Infinity for every expert ${remedy}`,
    );
    expect(at([-Infinity])).toBe('nothing thrown');
  });

  it('does not read masked rows; a batch that is all padding has an empty plan', () => {
    const bad = scores.slice().fill(NaN, 4, 8);
    const mask = Uint8Array.of(1, 0, 1, 1, 1, 1);
    assertPlan(planCapacity(bad, { experts: 4, topK: 2, policy, mask }));
    const none = planCapacity(bad.fill(NaN), { experts: 4, topK: 2, policy, mask: new Uint8Array(6) });
    assertPlan(none);
    expect(none.stats).toMatchObject({
      pairs: 0,
      capacity: { limit: Int32Array.of(0), dropped: 0, orphans: 0 },
    });
  });
});

describe('when a policy acts', () => {
  const at = (settings: object, context: object): number =>
    planCapacity(scores, {
      experts: 4,
      topK: 2,
      policy: capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 0, ...settings })),
      ...context,
    }).stats.pairs;

  it('follows applyTo, training and minTokens', () => {
    const acts = (settings: object): boolean[] =>
      (['train', 'evaluate', 'prefill', 'decode', undefined] as const).map(
        (phase) => at(settings, phase === undefined ? {} : { phase }) === 0,
      );
    expect(acts({})).toEqual([true, true, true, false, true]);
    expect(acts({ applyTo: 'decode' })).toEqual([true, false, false, true, false]);
    expect(acts({ applyTo: 'both', training: false })).toEqual([false, true, true, true, true]);
    expect(at({ minTokens: 6 }, {})).toBe(0);
    expect(at({ minTokens: 7 }, {})).toBe(12);
    expect(at({ minTokens: 6 }, { mask: Uint8Array.of(1, 1, 1, 1, 1, 0) })).toBe(10);
  });

  it('takes γ by layer', () => {
    expect(at({ gamma: [0, Infinity] }, { layer: 0 })).toBe(0);
    expect(at({ gamma: [0, Infinity] }, { layer: 1 })).toBe(12);
  });
});
