/**
 * @file From many experts to one: the average, that of the busiest, the busiest alone, the average of what is strong in each
 * (after OneS, Xue et al. 2022), or several side by side. All of them give one expert back exactly when there is one.
 *
 * Letters: `E` experts, `F` neurons, `D` model width.
 */
import type { ExpertKind } from '../define-expert.ts';
import {
  configuration,
  type CutOptions,
  type HostExpert,
  type HostTensor,
  joinExperts,
  mapParts,
  scaleExpert,
  sizeOfExpert,
  tensorOf,
} from './host-expert.ts';
import { weightedSum } from './host-rows.kernel.ts';
import { lowRank } from './low-rank.kernel.ts';

/** How experts are merged. `load` `[E]` is how many pairs each expert got on a text; only its proportions count. */
export type MergeMethod =
  | {
      /** The mean, or the mean weighted by load. */ readonly method: 'average';
      readonly load?: ArrayLike<number>;
    }
  | {
      /** The mean of the `count` busiest experts, weighted by load. */
      readonly method: 'top';
      readonly load: ArrayLike<number>;
      readonly count: number;
    }
  | { /** The busiest expert alone. */ readonly method: 'best'; readonly load: ArrayLike<number> }
  | {
      /** The mean of each expert's matrices reduced to `rank` directions; default `⌈min(F, D) / E⌉`. */
      readonly method: 'low-rank';
      readonly rank?: number;
      readonly load?: ArrayLike<number>;
    }
  | {
      /** The `count` busiest experts side by side, a layer of `count·F` neurons; default all. Each output is divided by their number. */
      readonly method: 'join';
      readonly load?: ArrayLike<number>;
      readonly count?: number;
    };

/**
 * Merges the experts of a layer.
 *
 * @param kind - of all
 * @param experts - at least one, of one shape; borrowed
 * @param options - method, its numbers, and the kind's output parts where the method scales outputs
 * @returns a fresh expert; its output stands for that of a gate whose weights sum to 1, multiply it with
 * {@link scaleExpert} for another sum
 * @throws `configuration` when load, count or rank do not fit; `shape` when experts differ in shape
 * @example
 * ```ts
 * const part = (value: number) => ({ shape: [1, 1], data: Float32Array.of(value) });
 * const experts = [1, 3].map((value) => ({ up: part(value), down: part(value) }));
 * mergeExperts(plainExpert(), experts, { method: 'average' }).up; // 2
 * mergeExperts(plainExpert(), experts, { method: 'best', load: [5, 7] }).up; // 3
 * ```
 */
export function mergeExperts(
  kind: ExpertKind,
  experts: readonly HostExpert[],
  options: MergeMethod & CutOptions,
): HostExpert {
  const [first] = experts;
  if (first === undefined) throw configuration('experts', 'must be at least one', '0');
  for (const [at, expert] of experts.entries()) {
    sizeOfExpert(kind, expert, `experts[${at}]`);
    assertSameShape(first, expert, at);
  }
  switch (options.method) {
    case 'average':
      return averageOf(experts, options.load);
    case 'best':
      return averageOf(busiest(experts, options.load, 1), undefined);
    case 'top': {
      const { load, count } = options;
      const chosen = busiestExperts(checkLoad(load, experts.length), count);
      return averageOf(
        pick(experts, chosen),
        chosen.map((expert) => load[expert] ?? 0),
      );
    }
    case 'low-rank':
      return averageOf(reduceRank(experts, options.rank), options.load);
    case 'join': {
      const { load = new Float64Array(experts.length).fill(1), count = experts.length } = options;
      const chosen = busiest(experts, load, count).map((expert) =>
        scaleExpert(kind, expert, { ...options, factor: 1 / count }),
      );
      return joinExperts(kind, chosen, options);
    }
  }
}

/**
 * The experts with the largest load, ties to the lowest index.
 *
 * @param load - `[E]`
 * @param count - how many, at most `E`
 * @returns their indices, ascending
 * @throws `configuration` on another count
 */
export function busiestExperts(load: ArrayLike<number>, count: number): number[] {
  if (!Number.isInteger(count) || count < 1 || count > load.length) {
    throw configuration('count', `must be an integer from 1 to ${load.length} experts`, String(count));
  }
  return Array.from(load, (_, expert) => expert)
    .toSorted((a, b) => (load[b] ?? 0) - (load[a] ?? 0) || a - b)
    .slice(0, count)
    .toSorted((a, b) => a - b);
}

function busiest(experts: readonly HostExpert[], load: ArrayLike<number>, count: number): HostExpert[] {
  return pick(experts, busiestExperts(checkLoad(load, experts.length), count));
}

function pick(experts: readonly HostExpert[], chosen: readonly number[]): HostExpert[] {
  return experts.filter((_, expert) => chosen.includes(expert));
}

function averageOf(experts: readonly HostExpert[], load: ArrayLike<number> | undefined): HostExpert {
  const weights = shares(
    load === undefined ? new Float64Array(experts.length).fill(1) : checkLoad(load, experts.length),
  );
  return mapParts(experts[0] ?? {}, ({ shape }, part) => ({
    shape,
    data: weightedSum(
      experts.map((expert) => tensorOf(expert, part).data),
      weights,
    ),
  }));
}

/** Load as weights that sum to 1. */
function shares(load: ArrayLike<number>): number[] {
  const values = Array.from(load);
  const sum = values.reduce((total, value) => total + value, 0);
  if (sum <= 0) throw configuration('load', 'must not be all 0', '0');
  return values.map((value) => value / sum);
}

function checkLoad(load: ArrayLike<number>, experts: number): ArrayLike<number> {
  const values = Array.from(load);
  const wrong = values.find((value) => !Number.isFinite(value) || value < 0);
  if (values.length !== experts)
    throw configuration('load', `must have one number for each of ${experts} experts`, String(values.length));
  if (wrong !== undefined) throw configuration('load', 'must be numbers of at least 0', String(wrong));
  return load;
}

function reduceRank(experts: readonly HostExpert[], asked: number | undefined): HostExpert[] {
  if (asked !== undefined && (!Number.isInteger(asked) || asked < 1)) {
    throw configuration('rank', 'must be an integer of at least 1', String(asked));
  }
  return experts.map((expert) =>
    mapParts(expert, ({ shape, data }): HostTensor => {
      const [rows = 1, columns] = shape;
      if (columns === undefined) return { shape, data: data.slice() };
      const rank = asked ?? Math.ceil(Math.min(rows, columns) / experts.length);
      return { shape, data: lowRank(data, { rows, columns, rank }) };
    }),
  );
}

function assertSameShape(first: HostExpert, expert: HostExpert, at: number): void {
  for (const part of Object.keys(first)) {
    const [wanted, got] = [tensorOf(first, part).shape, tensorOf(expert, part).shape];
    if (wanted.join() === got.join()) continue;
    throw configuration(
      `experts[${at}], part ${part}`,
      `must be [${wanted.join(', ')}] as in the first`,
      `[${got.join(', ')}]`,
      'merge experts of one size',
    );
  }
}
