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
import { assertPlan } from '../dispatch-plan.ts';
import type { Route } from '../route.ts';

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
}

interface Bench {
  readonly x: Tensor2D;
  readonly parameters: RouterParameters;
  readonly options: RouterOptions;
}

/**
 * Registers the tests that every router must pass. Start an engine before they run.
 *
 * Routes are valid for their kind; masked tokens are left out and do not move the others; nothing is leaked or written; two
 * runs give equal bytes; a NaN is refused; gradients equal central differences where the selection does not change.
 *
 * @param router - the router
 * @param options - `describe` and `it` of the test runner, sizes
 */
export function describeRouter(router: Router, options: DescribeRouterOptions): void {
  const { describe, it, modelWidth = 5, tokens = 7 } = options;
  const rng = kitRng(`router ${router.name}`);
  const createBench = (mask?: Uint8Array): Bench => ({
    x: randomTensor(rng.fork('x'), [tokens, modelWidth]),
    parameters: Object.fromEntries(
      Object.entries(router.parameterShapes(modelWidth)).map(([name, shape]) => [
        name,
        randomTensor(rng.fork(name), shape),
      ]),
    ),
    options: {
      layer: 3,
      buffers: Object.fromEntries(
        Object.entries(router.bufferShapes()).map(([name, shape]) => [
          name,
          randomValues(
            rng.fork(name),
            shape.reduce((product, length) => product * length, 1),
            0.3,
          ),
        ]),
      ),
      ...(mask === undefined ? {} : { mask }),
    },
  });
  const run = ({ x, parameters, options: given }: Bench): RouterOutput =>
    router.forward(x, parameters, given);

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
          checkMasked(whole.route, masked.route, mask);
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

    it('gives the same bytes twice', () => {
      withoutLeak(router.name, () => {
        const bench = createBench();
        const [first, second] = [run(bench), run(bench)];
        for (const [i, tensors] of routeTensors(first.route).entries()) {
          checkSame(
            valuesOf(routeTensors(second.route)[i]!),
            valuesOf(tensors),
            `route tensor ${i} of run 2`,
          );
        }
        checkSame(valuesOf(second.logits), valuesOf(first.logits), 'logits of run 2');
        disposeTree([bench.x, bench.parameters, first, second]);
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
      for (const bench of [createBench(), createBench(mask)]) {
        checkGradients(router, bench, options.tolerance ?? {});
        disposeTree([bench.x, bench.parameters]);
      }
    });
  });
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

function checkMasked(whole: Pairs, masked: Pairs, mask: Uint8Array): void {
  const entries = (route: Pairs): Map<number, number> => {
    const weights = valuesOf(route.weights);
    return new Map([...route.plan.source].map((source, n) => [source, weights[n]!]));
  };
  const [all, some] = [entries(whole), entries(masked)];
  for (const source of some.keys()) {
    const token = Math.floor(source / masked.plan.experts);
    check(mask[token] !== 0, `token ${token}: is masked, must have no pair`);
  }
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
    const base = router.forward(bench.x, bench.parameters, bench.options);
    const tensors = [...routeTensors(base.route), base.logits, base.scores];
    const directions = tensors.map((entry, i) => randomValues(kitRng(`direction ${i}`), entry.size));
    const upstream = tensors.map((entry, i) => tensor(directions[i]!.slice(), entry.shape));
    const gradients = router.backward(base.saved, {
      route: routeGradients(base.route, upstream),
      dlogits: upstream.at(-2) as Tensor2D,
      dscores: upstream.at(-1) as Tensor2D,
    });
    const valueAt = (x: Tensor2D, parameters: RouterParameters): number => {
      const moved = router.forward(x, parameters, bench.options);
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
