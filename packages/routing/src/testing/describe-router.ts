/**
 * @file Conformance kit of routers.
 */
import { disposeTree, tensor, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';

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
import {
  checkNear,
  checkRoute,
  checkSameRoute,
  checkUnmoved,
  pastOf,
  routeGradients,
  routeTensors,
  samePlan,
} from './route-checks.ts';
import type { Router, RouterOptions, RouterOutput, RouterParameters } from '../define-router.ts';
import type { RouterPhase } from '../token-context.ts';
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
  /** Weights have a straight-through gradient, which is not their derivative: it is left out of the differences. Default false. */
  readonly surrogateWeights?: boolean;
  /** What the router is told besides the kit's own batch: domains, several sequences. */
  readonly context?: Partial<RouterOptions>;
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
  readonly context: Partial<RouterOptions>;
  readonly mask?: Uint8Array;
  readonly phase?: RouterPhase;
}

/**
 * Registers the tests that every router must pass. Start an engine before they run.
 *
 * Routes are valid for their kind; masked tokens are left out, what is in them is not looked at, and they do not move the others;
 * what comes later moves nothing, outside training, in a router that says it is causal; nothing is leaked or written; two
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
      context: options.context ?? {},
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
        checkRoute(output.route, { tokens, experts: router.experts });
        for (const name of ['logits', 'scores'] as const) {
          const [rows, columns] = output[name].shape;
          check(
            rows === tokens && (output.route.kind === 'slots' || columns === router.experts),
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
        const [all, some, none] = [undefined, mask, new Uint8Array(tokens)].map((entry) =>
          createBench(entry),
        ) as [Bench, Bench, Bench];
        const outputs = [all, some, none].map(run) as [RouterOutput, RouterOutput, RouterOutput];
        const [whole, masked, empty] = outputs.map(({ route }) => route) as [Route, Route, Route];
        const sizes = { tokens, experts: router.experts };
        checkRoute(masked, { ...sizes, mask });
        if (whole.kind === 'pairs' && masked.kind === 'pairs' && options.tokensInteract !== true)
          checkUnmoved(whole, masked, mask);
        checkRoute(empty, { ...sizes, mask: new Uint8Array(tokens) });
        disposeTree([all, some, none].map(({ x, parameters }) => [x, parameters]));
        disposeTree(outputs);
      });
    });

    it('does not look at what is in a masked row', () => {
      withoutLeak(router.name, () => {
        const mask = Uint8Array.from({ length: tokens }, (_, t) => (t % 3 === 1 ? 0 : 1));
        const bench = createBench(mask);
        const values = valuesOf(bench.x).map((value, i) =>
          mask[Math.floor(i / modelWidth)] === 0 ? 3 - 2 * value : value,
        );
        const x = tensor2d(values, [tokens, modelWidth]);
        const [before, after] = [run(bench), run({ ...bench, x })];
        checkNear(after.route, before.route, 'the batch with other padding');
        disposeTree([bench.x, bench.parameters, x, before, after]);
      });
    });

    it('routes a token by what is before it, when it says that it is causal', () => {
      if (!router.causal) return;
      withoutLeak(router.name, () => {
        const bench = createBench();
        const end = Math.ceil(tokens / 2);
        const values = valuesOf(bench.x).map((value, i) =>
          Math.floor(i / modelWidth) < end ? value : 1 - 3 * value,
        );
        const x = tensor2d(values, [tokens, modelWidth]);
        const [before, after] = [run(bench), run({ ...bench, x })];
        checkClose(
          pastOf(after.route, end),
          pastOf(before.route, end),
          `route of tokens 0…${end - 1} after a change of later ones (define it with causal: false)`,
          { relative: 1e-4, absolute: 1e-5 },
        );
        disposeTree([bench.x, bench.parameters, x, before, after]);
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
        checkGradients(router, bench, options);
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
  const { modelWidth, tokens, context, mask, phase = 'evaluate' } = request;
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
      domain: new Int32Array(tokens),
      buffers: randomBuffers(router),
      ...context,
      ...(phase === 'train' ? { rng: kitRng(`draws of ${router.name}`) } : {}),
      ...(mask === undefined ? {} : { mask }),
    }),
  };
}

type GradientRequest = Pick<DescribeRouterOptions, 'tolerance' | 'surrogateWeights'>;

/** The scalar Σ c·route + Σ a·logits + Σ b·scores, and its gradient from `backward`, against differences. */
function checkGradients(router: Router, bench: Bench, request: GradientRequest): void {
  const { tolerance = {}, surrogateWeights = false } = request;
  withoutLeak(router.name, () => {
    const base = router.forward(bench.x, bench.parameters, bench.options());
    const tensors = [...routeTensors(base.route), base.logits, base.scores];
    const directions = tensors.map((entry, i) =>
      surrogateWeights && i === 0
        ? new Float32Array(entry.size)
        : randomValues(kitRng(`direction ${i}`), entry.size),
    );
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
