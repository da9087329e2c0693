/**
 * @file Conformance kit of capacity policies. No engine is needed: a policy sees integers and scores only.
 */
import { check, checkSame, checkThrows, kitRng } from './checks.ts';
import type { TestApi } from './checks.ts';
import type { CapacityProblem } from '../capacity/capacity-problem.ts';
import type { CapacityPolicy } from '../capacity/define-capacity-policy.ts';
import { assertPlan } from '../dispatch-plan.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { planTopK } from '../plan-top-k.ts';
import { selectExperts } from '../select-experts.kernel.ts';
import { parseGateConfig } from '../gate-config.ts';

/** Settings of {@link describeCapacityPolicy}. */
export interface DescribeCapacityPolicyOptions extends TestApi {
  /** Title; default the policy's name. */
  readonly title?: string;
  /** Experts of the test problems; default 8. */
  readonly experts?: number;
  /** Experts of each token; default 2. */
  readonly topK?: number;
  /** Of `phase`; default `evaluate`. Choose one that the policy acts on. */
  readonly phase?: CapacityProblem['phase'];
  /** Whether `stats.capacity.limit` bounds every expert, so that no load exceeds the sum of its caps. Default false. */
  readonly capped?: boolean;
}

interface Named {
  readonly title: string;
  readonly problem: CapacityProblem;
}

/**
 * Registers the tests that every capacity policy must pass.
 *
 * Plans are valid, of the same sizes, and route no masked token; `primary`, `dropped`, `expanded`, `orphans` and the histogram say what
 * changed; arrays are fresh, and no later plan writes an earlier one; questions are only read; the same question has the same answer whatever came
 * before; padding moves nobody; with `capped`, no expert is above its caps; NaN and an empty batch are refused.
 *
 * @param policy - the policy
 * @param options - `describe` and `it` of the test runner, and sizes
 */
export function describeCapacityPolicy(policy: CapacityPolicy, options: DescribeCapacityPolicyOptions): void {
  const { describe, it } = options;
  const problems = createProblems(options);
  const questions = structuredClone(problems);
  describe(`capacity policy ${options.title ?? policy.name}`, () => {
    for (const { title, problem } of problems) {
      it(`gives a valid plan that says what changed: ${title}`, () => {
        const plan = policy.plan(problem);
        checkMask(plan, problem.mask);
        assertPlan(plan);
        check(
          plan.tokens === problem.primary.tokens && plan.experts === problem.primary.experts,
          `plan: must be of ${problem.primary.tokens} tokens and ${problem.primary.experts} experts, got ${plan.tokens} and ${plan.experts}`,
        );
        checkChange(plan, problem);
        if (options.capped === true) checkCaps(plan);
      });
    }

    it('only reads its question, and never writes a plan again', () => {
      const plans = problems.map(({ problem }) => policy.plan(problem));
      const copies = structuredClone(plans);
      for (const { problem } of [...problems].reverse()) policy.plan(problem);
      for (const [i, plan] of plans.entries()) {
        for (const part of ['offsets', 'token', 'source', 'tokenOffsets', 'slot'] as const)
          checkSame(plan[part], copies[i]![part], `${part} of an earlier plan`);
        checkSame(plan.primary ?? [], copies[i]!.primary ?? [], 'primary of an earlier plan');
        checkSame(plan.stats.load, copies[i]!.stats.load, 'load of an earlier plan');
      }
      for (const [i, { problem }] of problems.entries()) {
        const asked = questions[i]!.problem;
        checkSame(problem.scores, asked.scores, 'scores after planning');
        checkSame(problem.primary.source, asked.primary.source, 'source of the primary plan after planning');
        checkSame(problem.primary.slot, asked.primary.slot, 'slot of the primary plan after planning');
      }
    });

    it('answers the same question the same way, whatever came before', () => {
      for (const { problem, title } of problems) {
        const first = policy.plan(problem);
        checkSame(policy.plan(problem).source, first.source, `source of run 2: ${title}`);
        for (const other of problems) policy.plan({ ...other.problem, step: 3 });
        checkSame(policy.plan(problem).source, first.source, `source after others: ${title}`);
      }
    });

    it('is not moved by padding', () => {
      const { problem } = problems[0]!;
      const padded = problems.find(({ title }) => title === 'padded')!.problem;
      const real = [...padded.mask!.keys()].filter((t) => padded.mask![t] !== 0);
      const expected = [...policy.plan(problem).source].map((pair) => {
        const { experts } = problem.primary;
        return real[Math.floor(pair / experts)]! * experts + (pair % experts);
      });
      const got = policy.plan(padded).source;
      checkSame([...got].sort(ascending), expected.sort(ascending), 'pairs of the padded batch');
    });

    it('refuses NaN and an empty batch', () => {
      const { problem } = problems[0]!;
      const scores = Float32Array.from(problem.scores);
      scores[problem.primary.experts] = NaN;
      checkThrows(() => policy.plan({ ...problem, scores, layer: 1 }), 'numerics', 'NaN in token 1');
      const none = { ...problem, ...emptyBatch(problem) };
      checkThrows(() => policy.plan(none), 'shape', 'an empty batch');
    });
  });
}

const ascending = (a: number, b: number): number => a - b;

function emptyBatch(problem: CapacityProblem): Partial<CapacityProblem> {
  const { experts } = problem.primary;
  const primary = planTopK(new Int32Array(0), { tokens: 0, experts, topK: 1 });
  return { primary, scores: new Float32Array(0), deviceOf: new Int32Array(0), tokenClass: new Int32Array(0) };
}

/** Skewed scores with ties; the second problem is the first with padding between its tokens. */
function createProblems(options: DescribeCapacityPolicyOptions): Named[] {
  const { experts = 8, topK = 2, phase = 'evaluate' } = options;
  const rng = kitRng(`capacity ${experts} ${topK}`);
  const row = (skew: number): number[] => {
    const raw = Array.from(
      { length: experts },
      (_, e) => (1 + rng.integer(16)) * (e < experts / 4 ? skew : 1),
    );
    const sum = raw.reduce((a, b) => a + b, 0);
    return raw.map((value) => value / sum);
  };
  const problem = (rows: readonly (readonly number[])[], mask?: Uint8Array): CapacityProblem => {
    const scores = Float32Array.from(rows.flat());
    const gate = parseGateConfig({ experts, topK, score: 'identity' });
    const masked = mask === undefined ? {} : { mask };
    const { ids } = selectExperts({ logits: scores, ...masked }, gate);
    const primary = planTopK(ids, { tokens: rows.length, experts, topK, ...masked });
    return {
      scores,
      primary,
      phase,
      layer: 0,
      step: 0,
      sequences: 1,
      deviceOf: new Int32Array(rows.length),
      tokenClass: new Int32Array(rows.length),
      ...masked,
    };
  };
  const rows = Array.from({ length: 12 }, () => row(3));
  const padding = Array.from({ length: experts }, (_, e) => (e === 0 ? 1 : 0));
  const spread = rows.flatMap((entry, t) => (t % 3 === 1 ? [padding, entry] : [entry]));
  const mask = Uint8Array.from(spread, (entry) => (entry === padding ? 0 : 1));
  return [
    { title: 'skewed', problem: problem(rows) },
    { title: 'padded', problem: problem(spread, mask) },
    { title: 'one token', problem: problem([row(1)]) },
    {
      title: 'equal scores',
      problem: problem(Array.from({ length: 9 }, () => padding.map(() => 1 / experts))),
    },
    { title: 'all masked', problem: problem([row(1), row(1)], new Uint8Array(2)) },
  ];
}

function checkMask(plan: DispatchPlan, mask: Uint8Array | undefined): void {
  for (const pair of plan.source) {
    const token = Math.floor(pair / plan.experts);
    check(mask === undefined || mask[token] !== 0, `token ${token}: is masked, must have no pair`);
  }
}

function checkChange(plan: DispatchPlan, { primary, mask }: CapacityProblem): void {
  if (plan === primary) return;
  const { capacity } = plan.stats;
  check(capacity !== undefined, 'stats.capacity: must be given');
  if (capacity === undefined) return;
  const before = new Set(primary.source);
  const after = new Set(plan.source);
  for (const [n, pair] of plan.source.entries()) {
    const flag = plan.primary === undefined ? 1 : plan.primary[n];
    const expected = before.has(pair) ? 1 : 0;
    check(flag === expected, `primary[${n}]: must be ${expected}, got ${flag}`);
  }
  checkSame(capacity.preLoad, primary.stats.load, 'stats.capacity.preLoad');
  const counted = {
    dropped: [...before].filter((pair) => !after.has(pair)).length,
    expanded: [...after].filter((pair) => !before.has(pair)).length,
    orphans: countOrphans(plan, primary),
  } as const;
  for (const key of ['dropped', 'expanded', 'orphans'] as const)
    check(
      capacity[key] === counted[key],
      `stats.capacity.${key}: must be ${counted[key]}, got ${capacity[key]}`,
    );
  const real = mask === undefined ? plan.tokens : mask.filter((kept) => kept !== 0).length;
  const tokens = capacity.perToken.reduce((sum, count) => sum + count, 0);
  check(tokens === real, `stats.capacity.perToken: must count ${real} tokens, got ${tokens}`);
}

function countOrphans(plan: DispatchPlan, primary: DispatchPlan): number {
  const has = (of: DispatchPlan, t: number): boolean => of.tokenOffsets[t + 1]! > of.tokenOffsets[t]!;
  return Array.from({ length: plan.tokens }, (_, t) => t).filter((t) => has(primary, t) && !has(plan, t))
    .length;
}

function checkCaps(plan: DispatchPlan): void {
  const limit = plan.stats.capacity?.limit ?? new Int32Array(0);
  const room = limit.reduce((sum, value) => sum + value, 0);
  for (const [e, load] of plan.stats.load.entries())
    check(load <= room, `load of expert ${e}: must be at most its caps ${room}, got ${load}`);
}
