import { describe, expect, it } from 'vitest';

import {
  capacityMethods,
  capacityPolicy,
  defineCapacityPolicy,
  parseCapacityConfig,
  planKept,
} from '../../src/index.ts';
import type {
  CapacityPolicy,
  CapacityPolicyDefinition,
  CapacityProblem,
  DispatchPlan,
} from '../../src/index.ts';
import { describeCapacityPolicy } from '../../src/testing/index.ts';
import type { TestApi } from '../../src/testing/index.ts';

const placement = { devices: 2 };

for (const [title, settings] of Object.entries(capacityMethods)) {
  const limited = title !== 'expert-drop';
  for (const gamma of limited ? [0, 0.5, 1, 1.3, Infinity] : [null]) {
    const policy = capacityPolicy(
      parseCapacityConfig({ ...settings, placement, ...(gamma === null ? {} : { gamma }) }),
    );
    const capped = limited && !title.includes('device');
    describeCapacityPolicy(policy, { describe, it, title: `${title} γ=${gamma}`, capped });
  }
}

function failuresOf(policy: CapacityPolicy, capped = false): string {
  const failures: string[] = [];
  const api: TestApi = {
    describe: (_, body) => body(),
    it: (name, body) => {
      try {
        body();
      } catch (error) {
        failures.push(`${name}: ${(error as Error).message}`);
      }
    },
  };
  describeCapacityPolicy(policy, { ...api, capped });
  return failures.join('\n');
}

const sound = capacityPolicy(
  parseCapacityConfig({ method: 'drop', gamma: 0.75, expand: { kind: 'top-m', m: 3 } }),
);

function broken(plan: (problem: CapacityProblem) => DispatchPlan): CapacityPolicyDefinition {
  return { name: 'broken', plan };
}

/** Without the checks that `defineCapacityPolicy` puts in front. */
function unguarded(plan: (problem: CapacityProblem) => DispatchPlan): CapacityPolicy {
  return { ...sound, plan } as CapacityPolicy;
}

describe('describeCapacityPolicy', () => {
  it('passes the sound policy', () => {
    expect(failuresOf(sound, true)).toBe('');
  });

  it('fails for a load above the cap', () => {
    const loose = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 2 }));
    const lying = defineCapacityPolicy(
      broken((problem) => {
        const plan = loose.plan(problem);
        const capacity = { ...plan.stats.capacity!, limit: Int32Array.of(1) };
        return { ...plan, stats: { ...plan.stats, capacity } };
      }),
    );
    expect(failuresOf(lying, true)).toMatch(/load of expert \d: must be at most its caps 1, got/);
  });

  it('fails for a plan that contradicts itself', () => {
    const found = failuresOf(
      defineCapacityPolicy(
        broken((problem) => {
          const plan = sound.plan(problem);
          return { ...plan, source: plan.source.toReversed() };
        }),
      ),
    );
    expect(found).toMatch(/plan\.source\[0\]: must be token·experts \+ expert/);
  });

  it('fails for statistics that leave something out', () => {
    const quiet = (change: object): string =>
      failuresOf(
        defineCapacityPolicy(
          broken((problem) => {
            const plan = sound.plan(problem);
            return { ...plan, stats: { ...plan.stats, capacity: { ...plan.stats.capacity!, ...change } } };
          }),
        ),
      );
    expect(quiet({ dropped: 0 })).toMatch(/stats\.capacity\.dropped: must be \d+, got 0/);
    expect(quiet({ orphans: 99 })).toMatch(/stats\.capacity\.orphans: must be \d+, got 99/);
    expect(quiet({ preLoad: new Int32Array(8) })).toMatch(/stats\.capacity\.(preLoad|dropped)/);
  });

  it('fails for a policy that routes padding', () => {
    const blind = defineCapacityPolicy(
      broken((problem) => {
        const { tokens } = problem.primary;
        const tokenOffsets = Int32Array.from({ length: tokens + 1 }, (_, t) => t);
        return planKept({ ids: new Int32Array(tokens), tokenOffsets }, problem);
      }),
    );
    expect(failuresOf(blind)).toMatch(/token 1: is masked, must have no pair/);
  });

  it('fails for a policy that remembers', () => {
    let calls = 0;
    const moody = defineCapacityPolicy(
      broken((problem) => {
        calls += 1;
        return calls % 2 === 0
          ? sound.plan(problem)
          : planKept(
              { ids: new Int32Array(0), tokenOffsets: new Int32Array(problem.primary.tokens + 1) },
              problem,
            );
      }),
    );
    expect(failuresOf(moody)).toMatch(/source of run 2: skewed/);
  });

  it('fails for a policy that writes its question, or an earlier plan', () => {
    const greedy = defineCapacityPolicy(
      broken((problem) => {
        const plan = sound.plan(problem);
        (problem.scores as Float32Array)[0] = 0.125;
        return plan;
      }),
    );
    expect(failuresOf(greedy)).toMatch(/scores after planning\[0\]/);
    const shared = new Int32Array(1000);
    const reusing = defineCapacityPolicy(
      broken((problem) => {
        const plan = sound.plan(problem);
        shared.set(plan.token);
        return { ...plan, token: shared.subarray(0, plan.token.length) };
      }),
    );
    expect(failuresOf(reusing)).toMatch(/token of an earlier plan\[\d+\]/);
  });

  it('fails for a policy that lets padding take places', () => {
    const counting = defineCapacityPolicy(
      broken((problem) => {
        const most = Math.ceil((problem.primary.tokens * 2) / 8);
        const tight = capacityPolicy(parseCapacityConfig({ method: 'drop', gamma: 0, minCapacity: most }));
        return tight.plan(problem);
      }),
    );
    expect(failuresOf(counting)).toMatch(/pairs of the padded batch: must have/);
  });

  it('fails for a policy that routes NaN or an empty batch', () => {
    const calm = unguarded((problem) =>
      planKept({ ids: new Int32Array(0), tokenOffsets: new Int32Array(problem.primary.tokens + 1) }, problem),
    );
    expect(failuresOf(calm)).toMatch(/NaN in token 1: must throw a "numerics" error, got nothing/);
  });
});

describe('defineCapacityPolicy', () => {
  it('names every fault of a definition', () => {
    const wrong = { name: 'wrong', applies: 3, sizeFaults: 'no' } as never;
    expect(() => defineCapacityPolicy(wrong)).toThrow(
      'capacity policy "wrong": plan: must be a function, got undefined; sizeFaults: must be a function, got string; applies: must be a function, got number (see the port it implements)',
    );
    expect(() => defineCapacityPolicy({ ...broken(() => null as never), name: 'Not Kebab' })).toThrow(
      'plugin name: must be kebab-case',
    );
  });

  it('refuses a plan of other sizes', () => {
    const { plan } = sound;
    const odd = defineCapacityPolicy(broken((problem) => ({ ...plan(problem), tokens: 3 })));
    expect(failuresOf(odd)).toMatch(
      /capacity policy "broken": plan must be of 12 tokens and 8 experts, got 3 and 8 \(build it with planKept\)/,
    );
  });
});
