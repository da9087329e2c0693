/**
 * @file Plans for the kits: exact top-k, padded batches, idle experts, one token, a variable number of experts,
 * capped ones (drops, added pairs, orphans), nothing at all.
 */
import { kitRng } from './checks.ts';
import { capacityPolicy } from '../capacity/capacity-policy.ts';
import { parseCapacityConfig } from '../capacity/capacity-config.ts';
import { planCapacity } from '../capacity/plan-capacity.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { expertChoice } from '../gates/expert-choice.kernel.ts';
import { planPairs, planTopK } from '../plan-top-k.ts';

/** A plan with a name. */
export interface NamedPlan {
  /** For test titles. */
  readonly title: string;
  /** The plan. */
  readonly plan: DispatchPlan;
}

/**
 * Plans over `experts` experts (an even number, at least 4) that stress an executor.
 *
 * @param experts - number of experts
 */
export function samplePlans(experts: number): NamedPlan[] {
  const rng = kitRng(`plans ${experts}`);
  const choose = (limit: number, count: number): number[] => {
    const order = Int32Array.from({ length: limit }, (_, e) => e);
    rng.shuffle(order);
    return [...order.subarray(0, count)];
  };
  const topK = (tokens: number, k: number, limit: number): Int32Array =>
    Int32Array.from(Array.from({ length: tokens }, () => choose(limit, k)).flat());
  const ragged = [2, 0, experts, 1, 3, 0, 1].map((count) => choose(experts, count));
  const tokenOffsets = new Int32Array(ragged.length + 1);
  for (const [t, list] of ragged.entries()) tokenOffsets[t + 1] = (tokenOffsets[t] ?? 0) + list.length;
  return [
    { title: 'top-2 of 11 tokens', plan: planTopK(topK(11, 2, experts), { tokens: 11, experts, topK: 2 }) },
    {
      title: 'padded batch',
      plan: planTopK(topK(6, 2, experts), {
        tokens: 6,
        experts,
        topK: 2,
        mask: Uint8Array.of(1, 1, 0, 1, 0, 0),
      }),
    },
    { title: 'idle experts', plan: planTopK(topK(5, 1, 2), { tokens: 5, experts, topK: 1 }) },
    {
      title: 'every expert for every token',
      plan: planTopK(topK(3, experts, experts), { tokens: 3, experts, topK: experts }),
    },
    { title: 'one token', plan: planTopK(topK(1, 2, experts), { tokens: 1, experts, topK: 2 }) },
    {
      title: 'a variable number of experts',
      plan: planPairs(Int32Array.from(ragged.flat()), { experts, tokenOffsets }),
    },
    {
      title: 'no routed token',
      plan: planTopK(new Int32Array(8), { tokens: 4, experts, topK: 2, mask: new Uint8Array(4) }),
    },
    ...expertChoicePlans(experts),
    ...cappedPlans(experts),
  ];
}

/** Plans in which experts chose: equal loads, tokens with several experts, orphans. */
function expertChoicePlans(experts: number): NamedPlan[] {
  const rng = kitRng(`expert choice ${experts}`);
  const tokens = 9;
  const scores = Float32Array.from({ length: tokens * experts }, () => rng.uniform());
  const cells = [Int32Array.of(0, 1, 2, 3, 4), Int32Array.of(5, 6, 8)];
  return [experts, 1].map((maxPerToken) => {
    const choice = expertChoice({ scores, experts, cells, capacity: () => 2, maxPerToken });
    const plan = planPairs(choice.ids, { experts, tokenOffsets: choice.tokenOffsets });
    return { title: `expert choice, at most ${maxPerToken} for a token`, plan };
  });
}

/** Plans after a capacity policy, over skewed scores. */
function cappedPlans(experts: number): NamedPlan[] {
  const rng = kitRng(`capped plans ${experts}`);
  const scores = Float32Array.from(
    { length: 10 * experts },
    (_, i) => rng.uniform() + (i % experts < 2 ? 1 : 0),
  );
  const settings = {
    'capped: drops': { gamma: 0.75 },
    'capped: drops and orphans': { gamma: 0.25 },
    'capped: added pairs': { gamma: 1, scope: 'rank', placement: { devices: 2 }, expand: { kind: 'local' } },
    'capped: by device': { gamma: 0.5, granularity: 'device', placement: { devices: 2 } },
    'capped: over-selection': { gamma: 0.75, expand: { kind: 'top-m', m: 3 }, maxPerToken: 2 },
  };
  const mask = Uint8Array.from({ length: 10 }, (_, t) => (t === 4 ? 0 : 1));
  return Object.entries(settings).map(([title, own]) => {
    const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', ...own }));
    return { title, plan: planCapacity(scores, { experts, topK: 2, policy, mask }) };
  });
}
