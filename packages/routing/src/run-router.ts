/**
 * @file Running a router in a model: a trusted one as it is, any other with every output checked.
 *
 * Letters: `T` tokens, `D` model width, `E` experts, `N` routed pairs, `S` slots, `G` groups.
 */
import { isMoebiusError } from '@moebius/core';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import type {
  Router,
  RouterBuffers,
  RouterGradients,
  RouterLoad,
  RouterOptions,
  RouterOutput,
  RouterParameters,
  RouterUpstream,
} from './define-router.ts';
import { assertPlan } from './dispatch-plan.ts';
import type { DispatchPlan } from './dispatch-plan.ts';
import { firstNotFinite } from './finite.kernel.ts';
import { aliasFault, callPlugin, firstFault, isObject, tensorFault } from './plugin-call.ts';
import type { PluginCall, PluginFault } from './plugin-call.ts';
import type { Route } from './route.ts';

/** What a router is run on. Tensors are borrowed. */
export interface RouterInput {
  /** float32 `[T, D]`. */
  readonly x: Tensor2D;
  /** Its trained tensors. */
  readonly parameters: RouterParameters;
  /** Everything else. */
  readonly options: RouterOptions;
}

/**
 * Routes tokens `[T, D]`.
 *
 * @returns what the router returned; the caller owns its tensors
 * @throws `plugin` or `numerics` naming router, layer and part, when what it returned cannot be used
 */
export function routeForward(router: Router, { x, parameters, options }: RouterInput): RouterOutput {
  if (router.trusted) return router.forward(x, parameters, options);
  const tokens = x.shape[0];
  return callPlugin(
    callOf(router, 'forward', options.layer),
    () => router.forward(x, parameters, options),
    (output) =>
      firstFault([
        () => memberFault(output, 'an object with route, logits, scores and saved'),
        () => routeFault(output.route, router, tokens),
        () => tensorFault(output.logits, { part: 'logits', shape: scoreShape(router, tokens), finite: true }),
        () => tensorFault(output.scores, { part: 'scores', shape: scoreShape(router, tokens), finite: true }),
        () => tapsFault(output.taps, 'taps', tokens),
        () => aliasFault(output, [x, ...Object.values(parameters), ...Object.values(options.taps ?? {})]),
      ]),
  );
}

/**
 * The route of tokens `[T, D]`, with nothing to go back with.
 *
 * @returns the route; the caller owns its tensors
 * @throws as {@link routeForward}
 */
export function routeInference(router: Router, { x, parameters, options }: RouterInput): Route {
  if (router.trusted && router.infer !== undefined) return router.infer(x, parameters, options);
  const { infer } = router;
  return callPlugin(
    callOf(router, infer === undefined ? 'forward' : 'infer', options.layer),
    () =>
      infer === undefined
        ? router.forward(x, parameters, options)?.route
        : infer.call(router, x, parameters, options),
    (route) =>
      router.trusted
        ? null
        : firstFault([
            () => routeFault(route, router, x.shape[0]),
            () => aliasFault(route, [x, ...Object.values(parameters)]),
          ]),
  );
}

/** Where {@link routeBackward} is. */
export interface RouterBackwardInput {
  /** From `forward`; borrowed. */
  readonly saved: unknown;
  /** Borrowed. */
  readonly upstream: RouterUpstream;
  /** `T` and `D`. */
  readonly shape: readonly [number, number];
  /** Layer index. */
  readonly layer?: number;
}

/**
 * Gradients of one {@link routeForward}.
 *
 * @returns `dx` `[T, D]` and one gradient for each trained tensor; the caller owns them
 * @throws as {@link routeForward}
 */
export function routeBackward(router: Router, input: RouterBackwardInput): RouterGradients {
  const { saved, upstream, shape, layer } = input;
  if (router.trusted) return router.backward(saved, upstream);
  const wanted = Object.entries(router.parameterShapes(shape[1]));
  const given = [upstream.dlogits, upstream.dscores].filter((tensor) => tensor !== undefined);
  return callPlugin(
    callOf(router, 'backward', layer),
    () => router.backward(saved, upstream),
    (gradients) =>
      firstFault([
        () => memberFault(gradients, 'an object with dx and parameters'),
        () => tensorFault(gradients.dx, { part: 'dx', shape }),
        () => memberFault(gradients.parameters, 'gradients by name', 'parameters'),
        ...wanted.map(
          ([name, size]) =>
            () =>
              tensorFault(gradients.parameters[name], { part: `gradient of ${name}`, shape: size }),
        ),
        () => unknownFault(Object.keys(gradients.parameters), Object.keys(router.parameterShapes(shape[1]))),
        () => tapsFault(gradients.dtaps, 'dtaps', shape[0]),
        () => aliasFault(gradients, given as Tensor[]),
      ]),
  );
}

/**
 * A layer's buffers after a step.
 *
 * @returns fresh arrays, or the same when the router does not move them
 * @throws `plugin` or `numerics` naming router, layer and buffer
 */
export function advanceRouter(router: Router, buffers: RouterBuffers, seen: RouterLoad): RouterBuffers {
  const { advance } = router;
  if (advance === undefined) return buffers;
  const call = callOf(router, 'advance', seen.layer);
  return callPlugin(
    call,
    () => advance.call(router, buffers, seen),
    (after) => bufferFault(after, router),
  );
}

/** What is wrong with the buffers of a router. */
export function bufferFault(buffers: unknown, router: Router): PluginFault | null {
  return firstFault([
    () => memberFault(buffers, 'buffers by name'),
    ...Object.entries(router.bufferShapes()).map(([name, shape]) => (): PluginFault | null => {
      const length = shape.reduce((size, axis) => size * axis, 1);
      const value = (buffers as RouterBuffers)[name];
      const part = `buffer ${name}`;
      const expectation = `must be a Float32Array of ${length}`;
      if (!(value instanceof Float32Array)) return { part, expectation, got: typeof value };
      if (value.length !== length) return { part, expectation, got: `one of ${value.length}` };
      const at = firstNotFinite(value);
      return at < 0 ? null : { part, expectation: 'must be finite', got: `${value[at]} at [${at}]` };
    }),
  ]);
}

function callOf({ name }: Router, hook: string, layer: number | undefined): PluginCall {
  return { kind: 'router', name, hook, layer };
}

function scoreShape(router: Router, tokens: number): readonly (number | null)[] {
  return [tokens, router.route === 'slots' ? null : router.experts];
}

function memberFault(value: unknown, wanted: string, part: string = ''): PluginFault | null {
  if (isObject(value)) return null;
  return { part, expectation: `must return ${wanted}`, got: value === undefined ? 'nothing' : String(value) };
}

function unknownFault(got: readonly string[], known: readonly string[]): PluginFault | null {
  const extra = got.find((name) => !known.includes(name));
  if (extra === undefined) return null;
  return {
    part: 'parameters',
    expectation: `must be gradients of ${known.join(', ') || 'nothing'}`,
    got: `"${extra}"`,
  };
}

function tapsFault(taps: unknown, part: string, tokens: number): PluginFault | null {
  if (taps === undefined) return null;
  if (!isObject(taps)) return { part, expectation: 'must be tensors by name', got: String(taps) };
  return firstFault(
    Object.entries(taps).map(
      ([name, tap]) =>
        () =>
          tensorFault(tap, { part: `${part}.${name}`, shape: [tokens, null], finite: true }),
    ),
  );
}

function routeFault(route: unknown, router: Router, tokens: number): PluginFault | null {
  if (!isObject(route) || route['kind'] !== router.route) {
    const got = isObject(route) ? String(route['kind']) : String(route);
    return { part: 'route', expectation: `must be of kind ${router.route}, as the router says`, got };
  }
  const known = route as unknown as Route;
  if (known.kind === 'pairs') return pairsFault(known, router, tokens);
  if (known.kind === 'slots') {
    const slots = isObject(known.dispatch) ? (known.dispatch.shape[1] ?? null) : null;
    return firstFault([
      () =>
        tensorFault(known.dispatch, { part: 'route.dispatch', shape: [tokens, slots ?? null], finite: true }),
      () =>
        tensorFault(known.combine, { part: 'route.combine', shape: [tokens, slots ?? null], finite: true }),
    ]);
  }
  return firstFault([
    () =>
      tensorFault(known.mix, { part: 'route.mix', shape: [null, router.experts], finite: true }) ??
      groupFault(known.group, { tokens, groups: known.mix.shape[0] }),
  ]);
}

function pairsFault(
  route: Extract<Route, { kind: 'pairs' }>,
  router: Router,
  tokens: number,
): PluginFault | null {
  const plan: unknown = route.plan;
  if (!isObject(plan)) {
    return { part: 'route.plan', expectation: 'must be made by planTopK or planPairs', got: String(plan) };
  }
  return firstFault([
    () => countFault('route.plan.tokens', plan['tokens'], tokens),
    () => countFault('route.plan.experts', plan['experts'], router.experts),
    () => planFault(route.plan),
    () =>
      tensorFault(route.weights, {
        part: 'route.weights',
        shape: [route.plan.token.length],
        finite: true,
      }),
  ]);
}

function countFault(part: string, got: unknown, wanted: number): PluginFault | null {
  return got === wanted ? null : { part, expectation: `must be ${wanted}`, got: String(got) };
}

/** Any broken invariant of a plan: out of range, twice for one token, of another length. */
function planFault(plan: DispatchPlan): PluginFault | null {
  try {
    assertPlan(plan);
    return null;
  } catch (error) {
    if (!isMoebiusError(error)) {
      return { part: 'route.plan', expectation: 'must be made by planTopK or planPairs', got: String(error) };
    }
    const [, expectation = '', got = ''] = /^[^:]*: (.*), got (.*?)(?: \(.*)?$/.exec(error.message) ?? [];
    return { part: `route.${error.message.split(':')[0]}`, expectation, got };
  }
}

function groupFault(group: unknown, sizes: { tokens: number; groups: number }): PluginFault | null {
  const part = 'route.group';
  const { tokens, groups } = sizes;
  if (!(group instanceof Int32Array) || group.length !== tokens) {
    const got = group instanceof Int32Array ? `one of ${group.length}` : typeof group;
    return { part, expectation: `must be an Int32Array of ${tokens}`, got };
  }
  const at = group.findIndex((entry) => entry < -1 || entry >= groups);
  return at < 0
    ? null
    : {
        part,
        expectation: `must be in 0…${groups - 1}, or -1 for no group`,
        got: `${group[at]} at [${at}]`,
      };
}
