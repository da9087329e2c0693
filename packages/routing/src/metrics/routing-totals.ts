/**
 * @file Routing metrics from plans and scores alone, as totals that add up over batches, layers and ranks.
 *
 * Letters: `T` tokens, `E` experts.
 */
import { MoebiusError } from '@moebius/core';

import type { DispatchPlan } from '../dispatch-plan.ts';
import { countTokens } from '../losses/count-pairs.kernel.ts';
import { countTogether, sumRows } from './routing-totals.kernel.ts';

/** Totals of one layer over any number of batches. Plain arrays: they can be sent and added. */
export interface RoutingTotals {
  /** `E`. */
  readonly experts: number;
  /** Tokens that could be routed. */
  readonly tokens: number;
  /** Tokens with at least one pair. */
  readonly routedTokens: number;
  /** `[E]`: pairs. */
  readonly load: Float64Array;
  /** `[E]`: pairs before a capacity policy. */
  readonly preLoad: Float64Array;
  /** Pairs that a capacity policy took away. */
  readonly dropped: number;
  /** Pairs that it added. */
  readonly expanded: number;
  /** Tokens that it left without any. */
  readonly orphans: number;
  /** `[E, E]`: tokens that two experts share; the diagonal is the load. */
  readonly together: Float64Array;
  /** Tokens whose scores were given. */
  readonly scoredTokens: number;
  /** `[E]`: summed probabilities. */
  readonly importance: Float64Array;
  /** Summed entropies of single tokens, nats. */
  readonly entropy: number;
  /** Summed probabilities of each token's best expert. */
  readonly confidence: number;
}

/** What {@link countRouting} is told beside the plan. */
export interface CountRoutingOptions {
  /** Float32Array `[T, E]`, not negative; rows are divided by their sum. Absent: importance, entropy and confidence are not measured. */
  readonly scores?: ArrayLike<number> | undefined;
  /** Uint8Array `[T]`, 0 leaves a token out. */
  readonly mask?: Uint8Array | undefined;
}

/**
 * Totals of one plan. O(T + E² + Σ k²).
 *
 * @param plan - a valid plan
 * @param options - scores and mask
 * @returns fresh totals; caller owns
 * @throws `shape` on lengths, `numerics` on a negative or non-finite score, naming the token
 * @example
 * ```ts
 * const plan = planTopK(Int32Array.of(1, 0, 1, 2), { tokens: 2, experts: 3, topK: 2 });
 * const { imbalance } = describeRouting(countRouting(plan)); // 1.5
 * ```
 */
export function countRouting(plan: DispatchPlan, options: CountRoutingOptions = {}): RoutingTotals {
  const { experts, stats } = plan;
  const { scores = [], mask } = options;
  assertLength('scores', scores.length, options.scores === undefined ? 0 : plan.tokens * experts);
  assertLength('mask', mask?.length ?? plan.tokens, plan.tokens);
  const { rows, importance, entropy, confidence } = sumRows(scores, experts, mask);
  if (rows < 0) throw badScores(-1 - rows);
  const { capacity } = stats;
  return {
    experts,
    tokens: countTokens(plan.tokens, mask),
    routedTokens: stats.routedTokens,
    load: Float64Array.from(stats.load),
    preLoad: Float64Array.from(capacity?.preLoad ?? stats.load),
    dropped: capacity?.dropped ?? 0,
    expanded: capacity?.expanded ?? 0,
    orphans: capacity?.orphans ?? 0,
    together: countTogether(plan),
    scoredTokens: rows,
    importance,
    entropy,
    confidence,
  };
}

/**
 * Totals of two batches together.
 *
 * @param left - of one batch
 * @param right - of another, of a layer with as many experts
 * @returns fresh totals; caller owns
 * @throws `shape` when the numbers of experts differ
 */
export function addRouting(left: RoutingTotals, right: RoutingTotals): RoutingTotals {
  assertLength('experts', right.experts, left.experts);
  const vectors = (['load', 'preLoad', 'together', 'importance'] as const).map((name) => [
    name,
    left[name].map((value, i) => value + (right[name][i] ?? 0)),
  ]);
  const numbers = (
    [
      'tokens',
      'routedTokens',
      'dropped',
      'expanded',
      'orphans',
      'scoredTokens',
      'entropy',
      'confidence',
    ] as const
  ).map((name) => [name, left[name] + right[name]]);
  return { experts: left.experts, ...Object.fromEntries([...vectors, ...numbers]) } as RoutingTotals;
}

/** What totals say. Means over tokens; 0 where there were none. */
export interface RoutingMetrics {
  /** `[E]`: share of all pairs. */
  readonly loadShare: Float64Array;
  /** Largest over mean load: 1 is perfect balance, E is collapse, 0 is no pair. */
  readonly imbalance: number;
  /** Squared coefficient of variation of the loads (population). */
  readonly loadVariation: number;
  /** Entropy of the loads over ln E: 1 is even use, 0 is collapse. */
  readonly loadEntropy: number;
  /** Experts without a pair. */
  readonly deadExperts: readonly number[];
  /** Pairs of a token, on average. */
  readonly pairsPerToken: number;
  /** Share of the dropless pairs that a capacity policy took away. */
  readonly fractionDropped: number;
  /** Share of tokens that could be routed and have no pair. */
  readonly fractionUnrouted: number;
  /** `[E]`: mean probability. */
  readonly importance: Float64Array;
  /** Mean entropy of a token's probabilities, nats: ln E prefers nothing. */
  readonly entropy: number;
  /** Mean probability of a token's best expert. */
  readonly confidence: number;
  /** `[E, E]`: of the tokens of the row's expert, the share that the column's expert has too; rows of dead experts are 0. */
  readonly coActivation: Float64Array;
}

/**
 * Metrics of totals.
 *
 * @param totals - of one or many batches
 * @returns fresh metrics; caller owns
 */
export function describeRouting(totals: RoutingTotals): RoutingMetrics {
  const { experts, load, tokens, scoredTokens, together } = totals;
  const pairs = load.reduce((sum, count) => sum + count, 0);
  const mean = pairs / experts;
  const share = (count: number, whole: number): number => (whole === 0 ? 0 : count / whole);
  const loadShare = load.map((count) => share(count, pairs));
  const spread = load.reduce((sum, count) => sum + (count - mean) ** 2, 0) / experts;
  const entropy = loadShare.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
  return {
    loadShare,
    imbalance: share(Math.max(...load), mean),
    loadVariation: share(spread, mean ** 2),
    loadEntropy: experts === 1 ? share(pairs, pairs) : entropy / Math.log(experts),
    deadExperts: [...load.keys()].filter((e) => load[e] === 0),
    pairsPerToken: share(pairs, tokens),
    fractionDropped: share(
      totals.dropped,
      totals.preLoad.reduce((sum, count) => sum + count, 0),
    ),
    fractionUnrouted: share(tokens - totals.routedTokens, tokens),
    importance: totals.importance.map((sum) => share(sum, scoredTokens)),
    entropy: share(totals.entropy, scoredTokens),
    confidence: share(totals.confidence, scoredTokens),
    coActivation: together.map((count, at) => share(count, load[Math.floor(at / experts)] ?? 0)),
  };
}

function assertLength(subject: string, got: number, expected: number): void {
  if (got === expected) return;
  throw new MoebiusError({
    code: 'shape',
    message: `routing metrics ${subject}: must be ${expected}, got ${got} (measure one layer with its own scores and mask)`,
    details: { subject, expected, got },
  });
}

function badScores(token: number): MoebiusError {
  return new MoebiusError({
    code: 'numerics',
    message: `routing metrics scores of token ${token}: must be finite and at least 0, got another (pass probabilities, not logits)`,
    details: { token },
  });
}
