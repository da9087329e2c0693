/**
 * @file Conformance kit of expert executors.
 */
import { runSync } from '@moebius/core';
import type { Task } from '@moebius/core';
import { disposeTree, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import {
  check,
  checkClose,
  checkSame,
  checkThrows,
  kitRng,
  randomTensor,
  randomValues,
  valuesOf,
  withoutLeak,
} from './checks.ts';
import type { TestApi, Tolerance } from './checks.ts';
import { layerOracle } from './layer-oracle.ts';
import type { OracleLayer } from './layer-oracle.ts';
import { samplePlans } from './plans.ts';
import { partShape } from '../define-expert.ts';
import type { ExpertKind, ExpertParameters } from '../define-expert.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { gatedExpert, identityExpert, nullExpert, plainExpert } from '../expert-kinds.ts';
import type { ExecutorGradients, ExecutorInput, ExpertExecutor, ExpertSource } from '../expert-executor.ts';
import { listGradients } from '../expert-executor.ts';
import { createResidentSource } from '../expert-source.ts';

/** Settings of {@link describeExecutor}. */
export interface DescribeExecutorOptions extends TestApi {
  /** Lists of kinds to run; default: all gated, and a heterogeneous list. Each at least 4 long. */
  readonly layers?: readonly { readonly title: string; readonly kinds: readonly ExpertKind[] }[];
  /** Puts the experts where the executor looks for them; default: in memory. */
  readonly createSource?: (
    kinds: readonly ExpertKind[],
    parameters: readonly ExpertParameters[],
  ) => ExpertSource;
  /** Runs a task; default `runSync`. */
  readonly run?: <T>(task: Task<T>) => T;
  /** Against the oracle; default 1e-4 relative, 1e-4 absolute. */
  readonly tolerance?: Tolerance;
}

const modelWidth = 6;
const hiddenWidth = 8;

interface Bench {
  readonly layer: OracleLayer;
  readonly input: ExecutorInput;
  readonly owned: unknown;
}

/**
 * Registers the tests that every executor of `pairs` routes must pass. Start an engine before they run.
 *
 * Forward and backward equal a loop over pairs for plans of every form (padded, idle experts, variable number of experts, empty);
 * experts without rows have zero or absent gradients; nothing is leaked or written; two runs give equal bytes; an unknown
 * route kind is refused.
 *
 * @param executor - the executor
 * @param options - `describe` and `it` of the test runner, and what to run
 */
export function describeExecutor(executor: ExpertExecutor, options: DescribeExecutorOptions): void {
  const { describe, it, run = runSync, tolerance = { relative: 1e-4, absolute: 1e-4 } } = options;
  const createSource = options.createSource ?? residentSource;
  describe(`executor ${executor.name}`, () => {
    for (const { title, kinds } of options.layers ?? defaultLayers()) {
      for (const { title: planTitle, plan } of samplePlans(kinds.length)) {
        it(`${title}: equals the loop over pairs, ${planTitle}`, () => {
          withoutLeak(executor.name, () => {
            const bench = createBench(kinds, plan, createSource);
            const dy = randomValues(kitRng('dy'), plan.tokens * modelWidth);
            const dyTensor = tensor2d(dy, [plan.tokens, modelWidth]);
            const { y, saved } = run(executor.forward(bench.input));
            const gradients = run(executor.backward(saved, dyTensor));
            const expected = layerOracle(bench.layer, dy);
            checkClose(valuesOf(y), expected.y, 'y', tolerance);
            compareGradients(gradients, expected, tolerance);
            checkSame(valuesOf(bench.input.hidden), bench.layer.hidden, 'hidden after both passes');
            disposeTree([bench.owned, dyTensor, y, saved, listGradients(gradients)]);
          });
        });
      }
      it(`${title}: gives the same bytes twice`, () => {
        withoutLeak(executor.name, () => {
          const bench = createBench(kinds, firstPlan(kinds.length), createSource);
          const passes = [0, 1].map(() => {
            const { y, saved } = run(executor.forward(bench.input));
            const gradients = listGradients(run(executor.backward(saved, y)));
            const bytes = [y, ...gradients].map(valuesOf);
            disposeTree([y, saved, gradients]);
            return bytes;
          });
          for (const [i, values] of passes[0]!.entries())
            checkSame(passes[1]![i]!, values, `tensor ${i} of run 2`);
          disposeTree(bench.owned);
        });
      });
    }

    it('refuses a route that it does not accept, and what another executor saved', () => {
      withoutLeak(executor.name, () => {
        const bench = createBench(defaultLayers()[0]!.kinds, firstPlan(4), createSource);
        if (!executor.accepts.includes('merge')) {
          const mix = randomTensor<Tensor2D>(kitRng('mix'), [1, 4]);
          const route = { kind: 'merge' as const, mix, group: new Int32Array(bench.layer.plan.tokens) };
          checkThrows(() => run(executor.forward({ ...bench.input, route })), 'plugin', 'a merge route');
          mix.dispose();
        }
        const foreign = { executor: 'another-executor', state: null };
        checkThrows(() => run(executor.backward(foreign, bench.input.hidden)), 'plugin', 'foreign saved');
        disposeTree(bench.owned);
      });
    });
  });
}

function defaultLayers(): { title: string; kinds: readonly ExpertKind[] }[] {
  const gated = gatedExpert();
  const plain = plainExpert({ activation: 'relu', bias: true });
  return [
    { title: 'gated experts', kinds: [gated, gated, gated, gated] },
    {
      title: 'heterogeneous experts',
      kinds: [gated, plain, identityExpert(), gatedExpert({ activation: 'gelu' }), nullExpert(), plain],
    },
  ];
}

function firstPlan(experts: number): DispatchPlan {
  return samplePlans(experts)[0]!.plan;
}

function residentSource(kinds: readonly ExpertKind[], parameters: readonly ExpertParameters[]): ExpertSource {
  return createResidentSource({ kinds, read: (_layer, expert) => parameters[expert]! });
}

function createBench(
  kinds: readonly ExpertKind[],
  plan: DispatchPlan,
  createSource: NonNullable<DescribeExecutorOptions['createSource']>,
): Bench {
  const rng = kitRng('executor');
  const hidden = randomValues(rng.fork('hidden'), plan.tokens * modelWidth);
  const weights = randomValues(rng.fork('weights'), plan.token.length);
  const parameters = kinds.map((kind, e): ExpertParameters => {
    const own = rng.fork(`expert ${e}`);
    const size = { modelWidth, hiddenWidth };
    return Object.fromEntries(
      Object.keys(kind.parts).map((part) => [
        part,
        randomTensor(own.fork(part), partShape(kind, part, size), 0.5),
      ]),
    );
  });
  const hiddenTensor = tensor2d(hidden.slice(), [plan.tokens, modelWidth]);
  const weightsTensor = tensor1d(weights.slice(), 'float32');
  const route = { kind: 'pairs' as const, plan, weights: weightsTensor };
  return {
    layer: { hidden, modelWidth, plan, weights, kinds, parameters },
    input: { layer: 0, hidden: hiddenTensor, route, experts: createSource(kinds, parameters) },
    owned: [parameters, hiddenTensor, weightsTensor],
  };
}

function compareGradients(
  got: ExecutorGradients,
  expected: ReturnType<typeof layerOracle>,
  tolerance: Tolerance,
): void {
  checkClose(valuesOf(got.hidden), expected.dhidden, 'gradient of hidden', tolerance);
  if (got.route.kind === 'pairs')
    checkClose(valuesOf(got.route.weights), expected.dweights, 'gradient of weights', tolerance);
  check(got.route.kind === 'pairs', `gradient of the route: must be of kind pairs, got ${got.route.kind}`);
  check(
    got.experts.length === expected.dexperts.length,
    `experts: must be ${expected.dexperts.length}, got ${got.experts.length}`,
  );
  for (const [e, parts] of expected.dexperts.entries()) {
    for (const [part, values] of Object.entries(parts)) {
      const gradient = got.experts[e]?.[part];
      const found = gradient === undefined ? new Float64Array(values.length) : valuesOf(gradient);
      checkClose(found, values, `gradient of experts[${e}].${part}`, tolerance);
    }
  }
}
