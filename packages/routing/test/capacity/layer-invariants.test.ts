/** The invariants of the specification (capacity-aware.md §8) that need arithmetic: 14 (weights) and 17 (devices), a thousand cases each. */
import { runSync } from '@moebius/core';
import { countTensors, createEngine, disposeTree, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  capacityPolicy,
  createLocalExecutor,
  createResidentSource,
  gatedExpert,
  parseCapacityConfig,
  planCapacity,
  planPairs,
  weighKeptForward,
} from '../../src/index.ts';
import type { CapacityWeightNorm, DispatchPlan } from '../../src/index.ts';
import { checkClose } from '../../src/testing/index.ts';
import { kitRng, randomTensor, randomValues, valuesOf } from '../../src/testing/checks.ts';
import { capacityCases, dropless, hostOf, plan, settings } from './cases.ts';
import type { CapacityCase } from './cases.ts';

beforeAll(async () => {
  await createEngine();
});

const runs = { numRuns: 1000 };
const expansions = fc.constantFrom(null, { kind: 'local' as const });

function holds(condition: boolean, what: string): void {
  if (!condition) throw new Error(`must hold: ${what}`);
}

/** Scores without a zero: a row of zeros has no shares. */
function positive(given: CapacityCase): CapacityCase {
  return { ...given, scores: given.scores.map((score) => score + 1 / 128) };
}

function weightsOf(given: CapacityCase, capped: DispatchPlan, norm: CapacityWeightNorm): Map<number, number> {
  const { tokens, experts } = given;
  const primary = dropless(given);
  const scores = tensor2d(given.scores.slice(), [tokens, experts]);
  const own = tensor1d(ownWeights(given, primary), 'float32');
  const { value, saved } = weighKeptForward(own, scores, {
    plan: capped,
    primary,
    weights: { norm, scale: 1, epsilon: 1e-20 },
  });
  const values = valuesOf(value);
  disposeTree([scores, own, value, saved]);
  return new Map([...capped.source].map((pair, n) => [pair, values[n]!]));
}

/** Weights that some router may have given: unlike any formula here. */
function ownWeights({ scores }: CapacityCase, primary: DispatchPlan): Float32Array {
  return Float32Array.from(primary.source, (pair) => Math.sqrt(scores[pair]!) + 0.1);
}

describe('invariants of capped layers', () => {
  it('14: kept weights are the dropless ones (router, primary); rows that keep a pair sum to 1 (kept); nothing is NaN', () => {
    const before = countTensors();
    fc.assert(
      fc.property(capacityCases.map(positive), settings, expansions, (given, base, expand) => {
        const capped = plan(given, { method: 'drop', ...base, expand });
        const primary = dropless(given);
        const own = ownWeights(given, primary);
        for (const [pair, weight] of weightsOf(given, capped, 'router')) {
          const at = primary.source.indexOf(pair);
          holds(at < 0 ? Number.isFinite(weight) : weight === own[at], `router's weight of pair ${pair}`);
        }
        const whole = weightsOf(given, primary, 'primary');
        for (const [pair, weight] of weightsOf(given, capped, 'primary'))
          holds(
            whole.has(pair) ? weight === whole.get(pair) : Number.isFinite(weight),
            `primary weight of pair ${pair}`,
          );
        const sums = new Float64Array(given.tokens);
        for (const [pair, weight] of weightsOf(given, capped, 'kept'))
          sums[Math.floor(pair / given.experts)]! += weight;
        for (const [t, sum] of sums.entries()) {
          const orphan = capped.tokenOffsets[t] === capped.tokenOffsets[t + 1];
          holds(orphan ? sum === 0 : Math.abs(sum - 1) < 1e-5, `sum of token ${t}: ${sum}`);
        }
      }),
      runs,
    );
    expect(countTensors()).toBe(before);
  });

  it('17: dispatch, experts of each device alone, combine: the sum equals one device running the whole plan', () => {
    const before = countTensors();
    const [width, most] = [3, 12];
    const rng = kitRng('devices');
    const kind = gatedExpert();
    const units = Array.from({ length: most }, (_, e) =>
      Object.fromEntries(
        ['gate', 'up', 'down'].map((part) => [part, randomTensor(rng.fork(`${e} ${part}`), [2, width])]),
      ),
    );
    const executor = createLocalExecutor();
    const run = (hidden: Tensor2D, of: DispatchPlan, weights: Tensor1D): Float32Array => {
      const source = createResidentSource({
        kinds: Array.from({ length: of.experts }, () => kind),
        read: (_, e) => units[e]!,
      });
      const { y, saved } = runSync(
        executor.forward({ layer: 0, hidden, route: { kind: 'pairs', plan: of, weights }, experts: source }),
      );
      const values = valuesOf(y);
      disposeTree([y, saved]);
      return values;
    };
    fc.assert(
      fc.property(capacityCases, settings, expansions, (given, base, expand) => {
        const { experts, tokens, devices, topK } = given;
        const placement = { devices };
        const policy = capacityPolicy(parseCapacityConfig({ method: 'drop', ...base, expand, placement }));
        const whole = planCapacity(given.scores, { experts, topK, policy, sequences: devices });
        const hidden = tensor2d(randomValues(kitRng('rows'), tokens * width), [tokens, width]);
        const weights = Float32Array.from(whole.source, (pair) => given.scores[pair]!);
        const all = tensor1d(weights.slice(), 'float32');
        const sum = new Float64Array(tokens * width);
        for (let device = 0; device < devices; device += 1) {
          const part = onDevice(given, whole, device);
          const own = tensor1d(
            Float32Array.from(part.source, (pair) => given.scores[pair]!),
            'float32',
          );
          for (const [i, value] of run(hidden, part, own).entries()) sum[i]! += value;
          own.dispose();
        }
        checkClose(run(hidden, whole, all), sum, 'y', { relative: 1e-4, absolute: 1e-5 });
        disposeTree([hidden, all]);
      }),
      runs,
    );
    disposeTree(units);
    expect(countTensors()).toBe(before);
  });
});

/** What one device receives: the pairs of its experts. */
function onDevice(given: CapacityCase, whole: DispatchPlan, device: number): DispatchPlan {
  const { experts } = given;
  const lists = Array.from({ length: whole.tokens }, (_, t) =>
    [...whole.slot.subarray(whole.tokenOffsets[t], whole.tokenOffsets[t + 1])]
      .map((pair) => whole.source[pair]! % experts)
      .filter((e) => hostOf(given, e) === device),
  );
  const tokenOffsets = new Int32Array(whole.tokens + 1);
  for (const [t, list] of lists.entries()) tokenOffsets[t + 1] = tokenOffsets[t]! + list.length;
  return planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets });
}
