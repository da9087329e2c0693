/**
 * @file Conformance kit of expert executors.
 */
import { runSync } from '@moebius/core';
import type { Rng, Task } from '@moebius/core';
import { disposeTree, tensor1d, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';

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
import { mergeCases, mergeLayers, slotsCases } from './route-cases.ts';
import type { NamedLayer, RouteCase } from './route-cases.ts';
import type { RouteOracleResult } from './route-oracles.ts';
import { partShape } from '../define-expert.ts';
import type { ExpertGradients, ExpertKind, ExpertParameters } from '../define-expert.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { gatedExpert, identityExpert, nullExpert, plainExpert } from '../expert-kinds.ts';
import type { ExecutorGradients, ExecutorInput, ExpertExecutor, ExpertSource } from '../expert-executor.ts';
import { listGradients } from '../expert-executor.ts';
import { createResidentSource } from '../expert-source.ts';
import type { Route } from '../route.ts';

/** Settings of {@link describeExecutor}. */
export interface DescribeExecutorOptions extends TestApi {
  /** Lists of kinds to run; default: all gated, and a heterogeneous list. Each at least 4 long. */
  readonly layers?: readonly NamedLayer[];
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
 * Registers the tests that every executor must pass, for each kind of route that it accepts. Start an engine before they run.
 *
 * Forward and backward equal a loop over pairs for plans of every form (padded, idle experts, variable number of experts, empty),
 * over slots, or over tokens and their merged experts; experts without rows have zero or absent gradients; experts of several kinds
 * are not merged; nothing is leaked or written; two runs give equal bytes; a route kind that is not accepted is refused.
 *
 * @param executor - the executor
 * @param options - `describe` and `it` of the test runner, and what to run
 */
export function describeExecutor(executor: ExpertExecutor, options: DescribeExecutorOptions): void {
  const { run = runSync, tolerance = { relative: 1e-4, absolute: 1e-4 } } = options;
  const kit: Kit = {
    ...options,
    executor,
    run,
    tolerance,
    createSource: options.createSource ?? residentSource,
    layers: options.layers ?? defaultLayers(),
  };
  options.describe(`executor ${executor.name}`, () => {
    if (executor.accepts.includes('pairs')) checkPairs(kit);
    if (executor.accepts.includes('slots'))
      for (const layer of kit.layers) checkCases(kit, layer, slotsCases(layer.kinds.length));
    if (executor.accepts.includes('merge')) {
      for (const layer of mergeLayers()) checkCases(kit, layer, mergeCases(layer.kinds.length));
      checkUnmergeable(kit);
    }
    checkRefusals(kit);
  });
}

interface Kit extends Required<DescribeExecutorOptions> {
  readonly executor: ExpertExecutor;
}

function checkPairs(kit: Kit): void {
  const { executor, it, run, tolerance, createSource } = kit;
  for (const { title, kinds } of kit.layers) {
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
          compareGradients(
            gradients,
            { ...expected, droute: [expected.dweights] },
            { kind: 'pairs', tolerance },
          );
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
}

/** Routes that are no pairs, against their oracles. */
function checkCases(kit: Kit, { title, kinds }: NamedLayer, cases: readonly RouteCase[]): void {
  const { executor, it, run, tolerance, createSource } = kit;
  for (const { title: caseTitle, tokens, createRoute, oracle } of cases) {
    it(`${title}: equals the loop, ${caseTitle}`, () => {
      withoutLeak(executor.name, () => {
        const route = createRoute();
        const hidden = randomValues(kitRng('hidden'), tokens * modelWidth);
        const dy = randomValues(kitRng('dy'), tokens * modelWidth);
        const parameters = randomExperts(kinds);
        const [x, dyTensor] = [hidden, dy].map((values) => tensor2d(values.slice(), [tokens, modelWidth]));
        const experts = createSource(kinds, parameters);
        const before = listRoute(route).map(valuesOf);
        const { y, saved } = run(executor.forward({ layer: 0, hidden: x!, route, experts }));
        const gradients = run(executor.backward(saved, dyTensor!));
        const expected = oracle({ hidden, modelWidth, kinds, parameters }, dy);
        checkClose(valuesOf(y), expected.y, 'y', tolerance);
        compareGradients(gradients, expected, { kind: route.kind, tolerance });
        checkSame(valuesOf(x!), hidden, 'hidden after both passes');
        for (const [i, values] of before.entries())
          checkSame(valuesOf(listRoute(route)[i]!), values, `route tensor ${i} after both passes`);
        disposeTree([listRoute(route), x, dyTensor, parameters, y, saved, listGradients(gradients)]);
      });
    });
  }
}

function checkUnmergeable({ executor, it, run, createSource }: Kit): void {
  it('does not merge experts of several kinds', () => {
    withoutLeak(executor.name, () => {
      const { kinds } = defaultLayers()[1]!;
      const parameters = randomExperts(kinds);
      const { tokens, createRoute } = mergeCases(kinds.length)[0]!;
      const route = createRoute();
      const hidden = randomTensor<Tensor2D>(kitRng('hidden'), [tokens, modelWidth]);
      const experts = createSource(kinds, parameters);
      checkThrows(
        () => run(executor.forward({ layer: 0, hidden, route, experts })),
        'configuration',
        'experts of several kinds in one group',
      );
      disposeTree([hidden, parameters, listRoute(route)]);
    });
  });
}

function checkRefusals({ executor, it, run, createSource }: Kit): void {
  it('refuses a route that it does not accept, and what another executor saved', () => {
    withoutLeak(executor.name, () => {
      const { kinds } = defaultLayers()[0]!;
      const bench = createBench(kinds, firstPlan(4), createSource);
      const { tokens } = bench.layer.plan;
      const others: Route[] = [
        { kind: 'merge', mix: randomTensor(kitRng('mix'), [1, 4]), group: new Int32Array(tokens) },
        {
          kind: 'slots',
          dispatch: randomTensor(kitRng('dispatch'), [tokens, 4]),
          combine: randomTensor(kitRng('combine'), [tokens, 4]),
        },
      ];
      for (const route of [bench.input.route, ...others]) {
        if (executor.accepts.includes(route.kind)) continue;
        checkThrows(
          () => run(executor.forward({ ...bench.input, route })),
          'plugin',
          `a route of kind ${route.kind}`,
        );
      }
      const foreign = { executor: 'another-executor', state: null };
      checkThrows(() => run(executor.backward(foreign, bench.input.hidden)), 'plugin', 'foreign saved');
      disposeTree([bench.owned, others.map(listRoute)]);
    });
  });
}

function defaultLayers(): NamedLayer[] {
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
  const parameters = randomExperts(kinds);
  const hiddenTensor = tensor2d(hidden.slice(), [plan.tokens, modelWidth]);
  const weightsTensor = tensor1d(weights.slice(), 'float32');
  const route = { kind: 'pairs' as const, plan, weights: weightsTensor };
  return {
    layer: { hidden, modelWidth, plan, weights, kinds, parameters },
    input: { layer: 0, hidden: hiddenTensor, route, experts: createSource(kinds, parameters) },
    owned: [parameters, hiddenTensor, weightsTensor],
  };
}

/** Experts whose numbers depend on their place; a base of scope `layer` is the same tensors for all of its kind. */
function randomExperts(kinds: readonly ExpertKind[]): ExpertParameters[] {
  const rng = kitRng('executor');
  const size = { modelWidth, hiddenWidth };
  const make = (kind: ExpertKind, parts: readonly string[], own: Rng): ExpertParameters =>
    Object.fromEntries(
      parts.map((part) => [part, randomTensor(own.fork(part), partShape(kind, part, size), 0.5)]),
    );
  const bases: { [name: string]: ExpertParameters } = {};
  return kinds.map((kind, e) => {
    const own = make(kind, Object.keys(kind.parts), rng.fork(`expert ${e}`));
    if (kind.base === undefined) return own;
    const { scope, kind: base } = kind.base;
    const key = scope === 'layer' ? base.name : `${base.name} of expert ${e}`;
    bases[key] ??= make(base, Object.keys(base.parts), rng.fork(`base ${key}`));
    return { ...own, ...bases[key] };
  });
}

function listRoute(route: Route): Tensor[] {
  if (route.kind === 'pairs') return [route.weights];
  return route.kind === 'slots' ? [route.dispatch, route.combine] : [route.mix];
}

function compareGradients(
  got: ExecutorGradients,
  expected: Omit<RouteOracleResult, 'y'>,
  { kind, tolerance }: { readonly kind: Route['kind']; readonly tolerance: Tolerance },
): void {
  checkClose(valuesOf(got.hidden), expected.dhidden, 'gradient of hidden', tolerance);
  check(got.route.kind === kind, `gradient of the route: must be of kind ${kind}, got ${got.route.kind}`);
  for (const [i, [name, gradient]] of namedRouteGradients(got.route).entries())
    checkClose(valuesOf(gradient), expected.droute[i]!, `gradient of ${name}`, tolerance);
  compareExperts(got.experts, expected.dexperts, tolerance);
}

function namedRouteGradients(route: ExecutorGradients['route']): (readonly [string, Tensor])[] {
  if (route.kind === 'pairs') return [['weights', route.weights]];
  if (route.kind === 'merge') return [['mix', route.mix]];
  return [
    ['dispatch', route.dispatch],
    ['combine', route.combine],
  ];
}

function compareExperts(
  got: readonly ExpertGradients[],
  expected: RouteOracleResult['dexperts'],
  tolerance: Tolerance,
): void {
  check(got.length === expected.length, `experts: must be ${expected.length}, got ${got.length}`);
  for (const [e, parts] of expected.entries()) {
    const strangers = Object.keys(got[e] ?? {}).filter((part) => !Object.hasOwn(parts, part));
    check(
      strangers.length === 0,
      `experts[${e}]: must have gradients of trained parts only, got ${strangers.join(', ')}`,
    );
    for (const [part, values] of Object.entries(parts)) {
      const gradient = got[e]?.[part];
      const found = gradient === undefined ? new Float64Array(values.length) : valuesOf(gradient);
      checkClose(found, values, `gradient of experts[${e}].${part}`, tolerance);
    }
  }
}
