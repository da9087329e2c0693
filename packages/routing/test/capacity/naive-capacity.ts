import type { CapacityKey, DropConfig, RerouteConfig } from '../../src/index.ts';
import { createRng } from '@moebius/core';

/** A problem in lists. */
export interface NaiveProblem {
  readonly tokens: number;
  readonly experts: number;
  /** `scores[t][e]` */
  readonly scores: readonly (readonly number[])[];
  /** `primary[t]`: experts, best first. */
  readonly primary: readonly (readonly number[])[];
  readonly real: readonly boolean[];
  readonly tokenClass: readonly number[];
  readonly cell: readonly number[];
  readonly deviceOf: readonly number[];
  readonly hostOf: readonly number[];
}

interface Pair {
  readonly t: number;
  readonly e: number;
  readonly added: boolean;
}

/** The cap, in words of the specification; exact in rationals of the test's γ. */
export function naiveCapacity(
  problem: NaiveProblem,
  config: DropConfig | RerouteConfig,
  cell: number,
  factor = 1,
): number {
  const members = [...problem.primary.keys()].filter((t) => problem.real[t] && problem.cell[t] === cell);
  const gamma = config.gamma as number;
  if (gamma === Infinity) return members.length;
  const count = members.reduce((sum, t) => sum + problem.primary[t]!.length, 0);
  // γ and β of the tests are multiples of 1/20, so 400·γ·β is an integer: no rounding noise here.
  const numerator = Math.round(gamma * 20) * Math.round(factor * 20) * count;
  const denominator = 400 * problem.experts;
  const remainder = numerator % denominator;
  const floor = (numerator - remainder) / denominator;
  const up =
    config.rounding === 'ceil' ? remainder > 0 : config.rounding === 'round' && 2 * remainder >= denominator;
  return Math.min(Math.max(floor + (up ? 1 : 0), config.minCapacity), members.length);
}

function uniformOf(problem: NaiveProblem, seed: number): (pair: Pair) => number {
  const values = new Float32Array(problem.tokens * problem.experts);
  createRng([seed, 0, 0]).fork('capacity').fillUniform(values);
  return ({ t, e }) => {
    const place = problem.real.slice(0, t).filter(Boolean).length;
    return values[place * problem.experts + e]!;
  };
}

function metricOf(problem: NaiveProblem, key: CapacityKey, seed: number): (pair: Pair) => number {
  if (key === 'score') return ({ t, e }) => problem.scores[t]![e]!;
  if (key === 'order') return ({ t }) => -t;
  if (key === 'reverse') return ({ t }) => t;
  return uniformOf(problem, seed);
}

/** Sorts by class, pair rank, metric, token, expert. */
function ranked(problem: NaiveProblem, config: DropConfig | RerouteConfig, list: readonly Pair[]): Pair[] {
  const metric = metricOf(problem, config.key, config.seed);
  const priority = config.method === 'drop' ? config.priority : 'score';
  const first = ({ t, e, added }: Pair): number =>
    priority === 'primary-first'
      ? Number(!added)
      : priority === 'best-first'
        ? Number(problem.primary[t]![0] === e)
        : 0;
  return [...list].sort(
    (a, b) =>
      problem.tokenClass[b.t]! - problem.tokenClass[a.t]! ||
      first(b) - first(a) ||
      metric(b) - metric(a) ||
      a.t - b.t ||
      a.e - b.e,
  );
}

function capBy(
  problem: NaiveProblem,
  config: DropConfig | RerouteConfig,
  list: readonly Pair[],
  rule: { bucket: (e: number) => number; limit: (cell: number, bucket: number) => number },
): Pair[] {
  const columns = new Map<string, Pair[]>();
  for (const pair of list) {
    const name = `${problem.cell[pair.t]} ${rule.bucket(pair.e)}`;
    columns.set(name, [...(columns.get(name) ?? []), pair]);
  }
  return [...columns].flatMap(([name, column]) => {
    const [cell, bucket] = name.split(' ').map(Number);
    return ranked(problem, config, column).slice(0, rule.limit(cell!, bucket!));
  });
}

function primaryPairs(problem: NaiveProblem): Pair[] {
  return problem.primary.flatMap((list, t) =>
    problem.real[t] ? list.map((e) => ({ t, e, added: false })) : [],
  );
}

function bestOfToken(problem: NaiveProblem, t: number): number[] {
  return Array.from({ length: problem.experts }, (_, e) => e).sort(
    (a, b) => problem.scores[t]![b]! - problem.scores[t]![a]! || a - b,
  );
}

/** Sources of the pairs that `drop` keeps, ascending. */
export function naiveDrop(problem: NaiveProblem, config: DropConfig): number[] {
  const { experts, hostOf } = problem;
  let list = primaryPairs(problem);
  for (let t = 0; t < problem.tokens && config.expand !== null; t += 1) {
    if (!problem.real[t]) continue;
    const offered =
      config.expand.kind === 'top-m'
        ? bestOfToken(problem, t).slice(0, config.expand.m)
        : hostOf.flatMap((device, e) => (device === problem.deviceOf[t] ? [e] : []));
    for (const e of offered) if (!problem.primary[t]!.includes(e)) list.push({ t, e, added: true });
  }
  const perExpert = {
    bucket: (e: number) => e,
    limit: (cell: number) => naiveCapacity(problem, config, cell),
  };
  if (config.granularity === 'expert') list = capBy(problem, config, list, perExpert);
  else {
    const bound = config.expertBound;
    if (bound !== null)
      list = capBy(problem, config, list, {
        ...perExpert,
        limit: (cell) => naiveCapacity(problem, config, cell, bound),
      });
    list = capBy(problem, config, list, {
      bucket: (e) => hostOf[e]!,
      limit: (cell, device) =>
        hostOf.filter((host) => host === device).length * naiveCapacity(problem, config, cell),
    });
  }
  const most = config.maxPerToken;
  if (most !== null) {
    list = problem.primary.flatMap((_, t) => {
      const own = new Set(list.filter((pair) => pair.t === t).map((pair) => pair.e));
      return bestOfToken(problem, t)
        .filter((e) => own.has(e))
        .slice(0, most)
        .map((e) => ({ t, e, added: false }));
    });
  }
  return list.map(({ t, e }) => t * experts + e).sort((a, b) => a - b);
}

/** Sources of the pairs after reroute, ascending. */
export function naiveReroute(problem: NaiveProblem, config: RerouteConfig): number[] {
  const limit = (cell: number): number => naiveCapacity(problem, config, cell);
  const banned = new Set<string>();
  let kept = primaryPairs(problem);
  for (let round = 1; ; round += 1) {
    const before = kept;
    kept = capBy(problem, config, kept, { bucket: (e) => e, limit });
    for (const pair of before) if (!kept.includes(pair)) banned.add(`${pair.t} ${pair.e}`);
    if (round === config.rounds) break;
    const chosen = problem.primary.flatMap((list, t) => {
      if (!problem.real[t]) return [];
      const own = kept.filter((pair) => pair.t === t).map((pair) => pair.e);
      return bestOfToken(problem, t)
        .filter((e) => !own.includes(e) && !banned.has(`${t} ${e}`))
        .slice(0, list.length - own.length)
        .map((e) => ({ t, e, added: true }));
    });
    if (chosen.length === 0) break;
    kept = [...kept, ...chosen];
  }
  return kept.map(({ t, e }) => t * problem.experts + e).sort((a, b) => a - b);
}
