/**
 * @file Conformance kit of routers.
 */
import { disposeTree, tensor, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import {
  check,
  checkClose,
  checkSame,
  checkThrows,
  checkGradient,
  inner,
  kitRng,
  randomTensor,
  randomValues,
  valuesOf,
  withoutLeak,
} from './checks.ts';
import type { TestApi, Tolerance } from './checks.ts';
import type { Router, RouterOptions, RouterOutput, RouterParameters } from '../define-router.ts';
import type { RouterPhase } from '../token-context.ts';
import { assertPlan } from '../dispatch-plan.ts';
import type { Route } from '../route.ts';
import { advanceRouter } from '../run-router.ts';
import { topKRouter } from '../top-k-router.ts';

/** Settings of {@link describeRouter}. */
export interface DescribeRouterOptions extends TestApi {
  /** Title; default the router's name. */
  readonly title?: string;
  /** Default 5. */
  readonly modelWidth?: number;
  /** Default 7. */
  readonly tokens?: number;
  /** Of gradients against differences. */
  readonly tolerance?: Tolerance;
  /** Tokens compete (expert choice, balanced assignment): masking one may move others. Default false. */
  readonly tokensInteract?: boolean;
}

interface Bench {
  readonly x: Tensor2D;
  readonly parameters: RouterParameters;
  /** Made afresh for each call: drawing from a generator advances it. */
  readonly options: () => RouterOptions;
}

interface BenchRequest {
  readonly modelWidth: number;
  readonly tokens: number;
  readonly mask?: Uint8Array;
  readonly phase?: RouterPhase;
}

/**
 * Registers the tests that every router must pass. Start an engine before they run.
 *
 * Routes are valid for their kind; masked tokens are left out and do not move the others; nothing is leaked or written; two
 * runs give equal bytes, with the same random numbers in training too; a NaN is refused; `infer` gives the route of `forward`;
 * buffers advance to buffers; a claimed `gate` is that gate; gradients equal central differences where the selection does
 * not change.
 *
 * @param router - the router
 * @param options - `describe` and `it` of the test runner, sizes
 */
export function describeRouter(router: Router, options: DescribeRouterOptions): void {
  const { describe, it, modelWidth = 5, tokens = 7 } = options;
  const createBench = (mask?: Uint8Array, phase?: RouterPhase): Bench =>
    makeBench(router, {
      modelWidth,
      tokens,
      ...(mask === undefined ? {} : { mask }),
      ...(phase === undefined ? {} : { phase }),
    });
  const run = ({ x, parameters, options: given }: Bench): RouterOutput =>
    router.forward(x, parameters, given());

  describe(`router ${options.title ?? router.name}`, () => {
    it('gives a valid route, borrows its inputs and frees what it does not return', () => {
      withoutLeak(router.name, () => {
        const bench = createBench();
        const before = valuesOf(bench.x);
        const output = run(bench);
        checkRoute(output.route, tokens, router.experts);
        for (const name of ['logits', 'scores'] as const) {
          check(
            String(output[name].shape) === `${tokens},${router.experts}`,
            `${name}: must be [${tokens}, ${router.experts}], got [${output[name].shape}]`,
          );
        }
        checkSame(valuesOf(bench.x), before, 'x after forward');
        disposeTree([bench.x, bench.parameters, output]);
      });
    });

    it('leaves masked tokens out without moving the others', () => {
      withoutLeak(router.name, () => {
        const mask = Uint8Array.from({ length: tokens }, (_, t) => (t % 3 === 1 ? 0 : 1));
        const all = createBench();
        const some = createBench(mask);
        const [whole, masked] = [run(all), run(some)];
        if (whole.route.kind === 'pairs' && masked.route.kind === 'pairs')
          checkMasked(whole.route, masked.route, { mask, alone: options.tokensInteract !== true });
        const none = createBench(new Uint8Array(tokens));
        const empty = run(none);
        if (empty.route.kind === 'pairs')
          check(
            empty.route.plan.stats.pairs === 0,
            `all tokens masked: must give 0 pairs, got ${empty.route.plan.stats.pairs}`,
          );
        disposeTree([
          all.x,
          all.parameters,
          some.x,
          some.parameters,
          none.x,
          none.parameters,
          whole,
          masked,
          empty,
        ]);
      });
    });

    it('gives the same bytes twice, in training too', () => {
      for (const phase of ['evaluate', 'train'] as const) {
        withoutLeak(router.name, () => {
          const bench = createBench(undefined, phase);
          const [first, second] = [run(bench), run(bench)];
          checkSameRoute(second.route, first.route, `run 2 (${phase})`);
          checkSame(valuesOf(second.logits), valuesOf(first.logits), `logits of run 2 (${phase})`);
          disposeTree([bench.x, bench.parameters, first, second]);
        });
      }
    });

    it('routes alike with and without something to go back with', () => {
      const { infer } = router;
      if (infer === undefined) return;
      withoutLeak(router.name, () => {
        const bench = createBench();
        const output = run(bench);
        const route = infer.call(router, bench.x, bench.parameters, bench.options());
        checkNear(route, output.route, 'infer');
        disposeTree([bench.x, bench.parameters, output, route]);
      });
    });

    it('is the gate that it says it is', () => {
      const { gate } = router;
      if (gate === undefined) return;
      withoutLeak(router.name, () => {
        const bench = createBench();
        const output = run(bench);
        const wanted = topKRouter(gate).forward(bench.x, bench.parameters, bench.options());
        checkNear(output.route, wanted.route, `the route of gate ${JSON.stringify(gate)}`);
        disposeTree([bench.x, bench.parameters, output, wanted]);
      });
    });

    it('moves its buffers to buffers', () => {
      if (router.advance === undefined) return;
      withoutLeak(router.name, () => {
        const buffers = randomBuffers(router);
        const before = structuredClone(buffers);
        const load = Float64Array.from({ length: router.experts }, (_, e) => 3 * e);
        const after = advanceRouter(router, buffers, { load, layer: 3, step: 1 });
        for (const name of Object.keys(before)) {
          checkSame(buffers[name]!, before[name]!, `buffer ${name} that advance was given`);
          check(after[name] !== buffers[name], `buffer ${name} after advance: must be a fresh array`);
        }
      });
    });

    it('refuses NaN instead of routing it', () => {
      withoutLeak(router.name, () => {
        const bench = createBench();
        const values = valuesOf(bench.x);
        values[modelWidth] = NaN;
        const x = tensor2d(values, [tokens, modelWidth]);
        checkThrows(() => run({ ...bench, x }), 'numerics', 'NaN in token 1');
        disposeTree([x, bench.x, bench.parameters]);
      });
    });

    it('has the gradients of its forward', () => {
      const mask = Uint8Array.from({ length: tokens }, (_, t) => (t === 2 ? 0 : 1));
      for (const bench of [createBench(), createBench(mask), createBench(undefined, 'train')]) {
        checkGradients(router, bench, options.tolerance ?? {});
        disposeTree([bench.x, bench.parameters]);
      }
    });
  });
}

function randomBuffers(router: Router): Record<string, Float32Array> {
  const rng = kitRng(`buffers ${router.name}`);
  return Object.fromEntries(
    Object.entries(router.bufferShapes()).map(([name, shape]) => [
      name,
      randomValues(rng.fork(name), sizeOf(shape), 0.3),
    ]),
  );
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** Rows, parameters as the router begins them (wide, so that choices differ), and everything a model would tell it. */
function makeBench(router: Router, request: BenchRequest): Bench {
  const { modelWidth, tokens, mask, phase = 'evaluate' } = request;
  const rng = kitRng(`router ${router.name}`);
  const initial = (name: string, shape: readonly number[]): Tensor => {
    const given = router.initialise?.(name, { shape, rng: rng.fork(name), standardDeviation: 1 });
    return given === undefined ? randomTensor(rng.fork(name), shape) : tensor(given, [...shape]);
  };
  return {
    x: randomTensor(rng.fork('x'), [tokens, modelWidth]),
    parameters: Object.fromEntries(
      Object.entries(router.parameterShapes(modelWidth)).map(([name, shape]) => [name, initial(name, shape)]),
    ),
    options: () => ({
      layer: 3,
      phase,
      sequences: 1,
      ids: Int32Array.from({ length: tokens }, (_, t) => (5 * t) % 11),
      positions: Int32Array.from({ length: tokens }, (_, t) => t),
      buffers: randomBuffers(router),
      ...(phase === 'train' ? { rng: kitRng(`draws of ${router.name}`) } : {}),
      ...(mask === undefined ? {} : { mask }),
    }),
  };
}

function checkSameRoute(got: Route, wanted: Route, subject: string): void {
  check(got.kind === wanted.kind, `route of ${subject}: must be of kind ${wanted.kind}, got ${got.kind}`);
  for (const [i, entry] of routeTensors(wanted).entries())
    checkSame(valuesOf(routeTensors(got)[i]!), valuesOf(entry), `route tensor ${i} of ${subject}`);
  if (got.kind === 'pairs' && wanted.kind === 'pairs')
    checkSame(got.plan.source, wanted.plan.source, `plan of ${subject}`);
}

function checkNear(got: Route, wanted: Route, subject: string): void {
  check(got.kind === wanted.kind, `${subject}: must be of kind ${wanted.kind}, got ${got.kind}`);
  if (got.kind === 'pairs' && wanted.kind === 'pairs')
    checkSame(got.plan.source, wanted.plan.source, `plan of ${subject}`);
  for (const [i, entry] of routeTensors(wanted).entries())
    checkClose(valuesOf(routeTensors(got)[i]!), valuesOf(entry), `route tensor ${i} of ${subject}`);
}

function routeTensors(route: Route): Tensor[] {
  if (route.kind === 'pairs') return [route.weights];
  return route.kind === 'slots' ? [route.dispatch, route.combine] : [route.mix];
}

function checkRoute(route: Route, tokens: number, experts: number): void {
  for (const values of routeTensors(route).map(valuesOf)) {
    check(
      values.every((value) => Number.isFinite(value)),
      'route tensors: must be finite',
    );
  }
  if (route.kind === 'pairs') {
    assertPlan(route.plan);
    check(route.plan.tokens === tokens, `plan.tokens: must be ${tokens}, got ${route.plan.tokens}`);
    check(route.plan.experts === experts, `plan.experts: must be ${experts}, got ${route.plan.experts}`);
    check(
      route.weights.size === route.plan.token.length,
      `weights: must have ${route.plan.token.length} entries, got ${route.weights.size}`,
    );
  } else if (route.kind === 'slots') {
    const [rows, slots] = route.combine.shape;
    const combine = valuesOf(route.combine);
    for (let t = 0; t < rows; t += 1)
      checkClose(
        [combine.slice(t * slots, (t + 1) * slots).reduce((a, b) => a + b, 0)],
        [1],
        `combine row ${t}`,
      );
  } else {
    check(route.group.length === tokens, `group: must have ${tokens} entries, got ${route.group.length}`);
    const mix = valuesOf(route.mix);
    for (let g = 0; g < mix.length / experts; g += 1)
      checkClose([mix.slice(g * experts, (g + 1) * experts).reduce((a, b) => a + b, 0)], [1], `mix row ${g}`);
  }
}

type Pairs = Extract<Route, { kind: 'pairs' }>;

function checkMasked(
  whole: Pairs,
  masked: Pairs,
  { mask, alone }: { readonly mask: Uint8Array; readonly alone: boolean },
): void {
  const entries = (route: Pairs): Map<number, number> => {
    const weights = valuesOf(route.weights);
    return new Map([...route.plan.source].map((source, n) => [source, weights[n]!]));
  };
  const [all, some] = [entries(whole), entries(masked)];
  for (const source of some.keys()) {
    const token = Math.floor(source / masked.plan.experts);
    check(mask[token] !== 0, `token ${token}: is masked, must have no pair`);
  }
  if (!alone) return;
  for (const [source, weight] of all) {
    const token = Math.floor(source / whole.plan.experts);
    if (mask[token] === 0) continue;
    check(some.has(source), `token ${token}: must keep its experts when others are masked`);
    checkClose([some.get(source) ?? NaN], [weight], `weight of token ${token} when others are masked`, {
      relative: 1e-5,
      absolute: 1e-6,
    });
  }
}

/** The scalar Σ c·route + Σ a·logits + Σ b·scores, and its gradient from `backward`, against differences. */
function checkGradients(router: Router, bench: Bench, tolerance: Tolerance): void {
  withoutLeak(router.name, () => {
    const base = router.forward(bench.x, bench.parameters, bench.options());
    const tensors = [...routeTensors(base.route), base.logits, base.scores];
    const directions = tensors.map((entry, i) => randomValues(kitRng(`direction ${i}`), entry.size));
    const upstream = tensors.map((entry, i) => tensor(directions[i]!.slice(), entry.shape));
    const gradients = router.backward(base.saved, {
      route: routeGradients(base.route, upstream),
      dlogits: upstream.at(-2) as Tensor2D,
      dscores: upstream.at(-1) as Tensor2D,
    });
    const valueAt = (x: Tensor2D, parameters: RouterParameters): number => {
      const moved = router.forward(x, parameters, bench.options());
      const same = samePlan(base.route, moved.route);
      const outputs = [...routeTensors(moved.route), moved.logits, moved.scores];
      const total = same
        ? outputs.reduce((sum, entry, i) => sum + inner(valuesOf(entry), directions[i]!), 0)
        : NaN;
      disposeTree(moved);
      return total;
    };
    compare(
      gradients.dx,
      (values) => {
        const x = tensor2d(values, bench.x.shape);
        const total = valueAt(x, bench.parameters);
        x.dispose();
        return total;
      },
      { at: bench.x, subject: 'dx', tolerance },
    );
    for (const [name, original] of Object.entries(bench.parameters)) {
      compare(
        gradients.parameters[name],
        (values) => {
          const moved = tensor(values, original.shape);
          const total = valueAt(bench.x, { ...bench.parameters, [name]: moved });
          moved.dispose();
          return total;
        },
        { at: original, subject: `gradient of ${name}`, tolerance },
      );
    }
    disposeTree([base, upstream, gradients]);
  });
}

function compare(
  gradient: Tensor | undefined,
  f: (values: Float32Array) => number,
  point: { readonly at: Tensor; readonly subject: string; readonly tolerance: Tolerance },
): void {
  const { at, subject, tolerance } = point;
  check(gradient !== undefined, `${subject}: must be given`);
  if (gradient === undefined) return;
  check(
    String(gradient.shape) === String(at.shape),
    `${subject}: must be [${at.shape}], got [${gradient.shape}]`,
  );
  checkGradient(valuesOf(gradient), { ...tolerance, subject, f, at: valuesOf(at) });
}

function samePlan(left: Route, right: Route): boolean {
  if (left.kind !== 'pairs' || right.kind !== 'pairs') return left.kind === right.kind;
  return String(left.plan.source) === String(right.plan.source);
}

function routeGradients(
  route: Route,
  upstream: readonly Tensor[],
): Parameters<Router['backward']>[1]['route'] & object {
  const [first, second] = upstream;
  if (route.kind === 'pairs') return { kind: 'pairs', weights: first as Tensor1D };
  if (route.kind === 'slots')
    return { kind: 'slots', dispatch: first as Tensor2D, combine: second as Tensor2D };
  return { kind: 'merge', mix: first as Tensor2D };
}
