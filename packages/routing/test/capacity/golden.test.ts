import { describe, expect, it } from 'vitest';

import {
  assertPlan,
  capacityPolicy,
  parseCapacityConfig,
  planCapacity,
  planFromJson,
  planToJson,
} from '../../src/index.ts';
import type { DispatchPlan } from '../../src/index.ts';

/** The diagram of the paper: 8 tokens on 2 devices, 4 experts, top-2, γ = 1. */
const scores = Float32Array.from(
  [
    [0.45, 0.05, 0.1, 0.4],
    [0.2, 0.15, 0.5, 0.15],
    [0.05, 0.55, 0.15, 0.25],
    [0.4, 0.08, 0.07, 0.45],
    [0.5, 0.15, 0.05, 0.3],
    [0.05, 0.38, 0.15, 0.42],
    [0.22, 0.48, 0.2, 0.1],
    [0.46, 0.04, 0.08, 0.42],
  ].flat(),
);

function planned(settings: object): DispatchPlan {
  const config = parseCapacityConfig({ gamma: 1, scope: 'rank', placement: { devices: 2 }, ...settings });
  const plan = planCapacity(scores, { experts: 4, topK: 2, policy: capacityPolicy(config) });
  assertPlan(plan);
  return plan;
}

/** Tokens of each expert as in the specification's table. */
function table(plan: DispatchPlan): string[] {
  return [0, 1, 2, 3].map((e) =>
    [...plan.token.subarray(plan.offsets[e], plan.offsets[e + 1])].map((t) => `T${t}`).join(' '),
  );
}

describe('the golden example', () => {
  it('has dropless loads 6 3 1 6', () => {
    const plan = planned({ method: 'drop', gamma: Infinity });
    expect([...plan.stats.load]).toEqual([6, 3, 1, 6]);
    expect(plan.stats.pairs).toBe(16);
  });

  it('Token Drop by score', () => {
    const plan = planned({ method: 'drop' });
    expect(table(plan)).toEqual(['T0 T3 T4 T7', 'T2 T5 T6', 'T1', 'T0 T3 T5 T7']);
    expect(plan.stats.capacity).toEqual({
      preLoad: Int32Array.of(6, 3, 1, 6),
      limit: Int32Array.of(2, 2),
      dropped: 4,
      expanded: 0,
      orphans: 0,
      perToken: Int32Array.of(0, 4, 4),
    });
    expect(plan.stats.capacity!.dropped / 16).toBe(0.25);
    expect(plan.primary).toBeUndefined();
  });

  it('Token Drop by order', () => {
    const plan = planned({ method: 'drop', key: 'order' });
    expect(table(plan)).toEqual(['T0 T1 T4 T6', 'T2 T5 T6', 'T1', 'T0 T2 T4 T5']);
  });

  it('Token Drop by reverse order', () => {
    const plan = planned({ method: 'drop', key: 'reverse' });
    expect(table(plan)).toEqual(['T1 T3 T6 T7', 'T2 T5 T6', 'T1', 'T2 T3 T5 T7']);
  });

  it('Expanded Drop', () => {
    const plan = planned({ method: 'drop', expand: { kind: 'local' } });
    expect(table(plan)).toEqual(['T0 T3 T4 T7', 'T1 T2 T5 T6', 'T1 T5 T6', 'T0 T3 T5 T7']);
    expect(plan.stats.pairs).toBe(15);
    expect(plan.tokenOffsets[6]! - plan.tokenOffsets[5]!).toBe(3);
    expect(plan.stats.capacity).toMatchObject({ dropped: 4, expanded: 3, orphans: 0 });
    const added = [...plan.source]
      .filter((_, n) => plan.primary![n] === 0)
      .map((pair) => `T${Math.floor(pair / 4)} E${pair % 4}`);
    expect(added).toEqual(['T1 E1', 'T5 E2', 'T6 E2']);
  });

  it('the device-level cap without expansion drops T6 E0 alone', () => {
    const plan = planned({ method: 'drop', granularity: 'device' });
    const whole = planned({ method: 'drop', gamma: Infinity });
    const gone = [...whole.source].filter((pair) => !plan.source.includes(pair));
    expect(gone).toEqual([6 * 4 + 0]);
    expect(plan.stats.pairs).toBe(15);
  });
});

describe('a capped plan as JSON', () => {
  it('comes back with its statistics, and a changed one is refused', () => {
    const plan = planned({ method: 'drop', expand: { kind: 'local' } });
    const json = JSON.parse(JSON.stringify(planToJson(plan)));
    expect(planFromJson(json)).toEqual(plan);
    const changed = (capacity: object): unknown => ({ ...json, capacity: { ...json.capacity, ...capacity } });
    expect(() => planFromJson(changed({ dropped: 3 }))).toThrow(
      'plan.stats.capacity.dropped: must be 4, got 3',
    );
    expect(() => planFromJson(changed({ expanded: 0 }))).toThrow(
      'plan.stats.capacity.expanded: must be 3, got 0',
    );
    expect(() => planFromJson(changed({ perToken: [0, 3, 4, 1] }))).toThrow(
      'plan.stats.capacity.perToken[1]: must be 2, got 3',
    );
    expect(() => planFromJson(changed({ preLoad: [1] }))).toThrow(
      'plan.stats.capacity.preLoad.length: must be 4, got 1',
    );
    expect(() => planFromJson(changed({ orphans: -1 }))).toThrow(
      'plan.orphans: must be an integer of at least 0, got -1',
    );
    expect(() => planFromJson({ ...json, capacity: 3 })).toThrow('plan.capacity: must be an object, got 3');
  });
});
