import { isMoebiusError } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { parseGateConfig } from './gate-config.ts';
import { families } from '../test/gate-families.ts';

function faultsOf(value: unknown): string[] {
  try {
    parseGateConfig(value);
  } catch (error) {
    if (!isMoebiusError(error, 'configuration')) throw error;
    const faults = error.details['faults'] as unknown as { path: string; expectation: string; got: string }[];
    return faults.map((fault) => `${fault.path}: ${fault.expectation}, got ${fault.got}`);
  }
  return [];
}

describe('parseGateConfig', () => {
  it('fills defaults and freezes', () => {
    const config = parseGateConfig({ experts: 8, topK: 2 });
    expect(config).toEqual({
      experts: 8,
      topK: 2,
      score: 'softmax',
      scoreAfterTopK: false,
      selectionBias: false,
      groups: null,
      renormalise: false,
      renormaliseEpsilon: 0,
      scale: 1,
      logitBias: false,
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it('accepts every published family and survives JSON', () => {
    for (const [name, input] of Object.entries(families)) {
      const config = parseGateConfig(input);
      expect(parseGateConfig(JSON.parse(JSON.stringify(config))), name).toEqual(config);
    }
  });

  it('reports all faults at once', () => {
    expect(faultsOf({ experts: 0, topK: 1.5, score: 'softmin', renormalize: true })).toEqual([
      'experts: must be at least 1, got 0',
      'topK: must be an integer, got 1.5',
      'score: must be one of "softmax", "sigmoid", "sqrt-softplus", "relu", "identity", got "softmin"',
      'renormalize: must be a known key, got "renormalize"',
    ]);
  });

  it('says when members contradict each other', () => {
    const groups = { count: 4, keep: 2, score: 'max', fill: 'zero' };
    expect(faultsOf({ experts: 4, topK: 5 })).toEqual(['topK: must be at most experts 4, got 5']);
    expect(faultsOf({ experts: 10, topK: 2, groups })).toEqual([
      'groups.count: must divide experts 10, got 4',
    ]);
    expect(faultsOf({ experts: 8, topK: 5, groups })).toEqual([
      'groups.keep: must keep topK 5 experts in groups of 2, got 2',
    ]);
    expect(faultsOf({ experts: 8, topK: 1, groups: { ...groups, keep: 5 } })).toEqual([
      'groups.keep: must be at most groups.count 4, got 5',
    ]);
    expect(faultsOf({ experts: 4, topK: 1, groups: { ...groups, score: 'top2-sum' } })).toEqual([
      'groups.score: must be max for groups of 1 expert, got "top2-sum"',
    ]);
    expect(
      faultsOf({ experts: 4, topK: 1, score: 'identity', renormalise: true, scoreAfterTopK: true }),
    ).toEqual([
      "scoreAfterTopK: must be false for score 'identity', got true",
      "renormalise: must be false for score 'identity', got true",
    ]);
    expect(faultsOf(null)).toHaveLength(1);
  });
});
