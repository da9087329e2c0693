/**
 * @file A router put together from stages: the passes, the one read, the checks and the gradients of every token-choice gate.
 *
 * ```
 * x_TD ─factors─► rows ─scorer─► z_TW ─noise─► logits_TW ─score─► scores_TW ─ first E columns ─► weigh ─► weights_N
 *                                                 └─ read once ─► choose ─► plan (integers)        ▲
 *                                                                              └──────────────────┘
 * ```
 * Letters: `T` tokens, `D` model width, `E` experts, `W` columns of the logits, `N` routed pairs.
 */
import { MoebiusError } from '@moebius/core';
import {
  add,
  assertCount,
  assertShape,
  cloneTensor,
  mul,
  pad,
  readHostSync,
  runOp,
  slice,
  tensor2d,
  zeros,
} from '@moebius/tensor';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { badLogits } from '../bad-logits.ts';
import { defineRouter } from '../define-router.ts';
import type { InitialRequest, Router, RouterGradients, RouterOptions } from '../define-router.ts';
import type { RouterOutput, RouterParameters, RouterUpstream } from '../define-router.ts';
import type { DispatchPlan } from '../dispatch-plan.ts';
import { planPairs } from '../plan-top-k.ts';
import { addPresent, scoreBackward, scoreForward } from '../score-function.ts';
import { firstBadRow, realPairs, scoreRows } from './choose.kernel.ts';
import type { NamedShapes, Noise, RouterStages, Scorer } from './stages.ts';

/** What backward needs. */
interface ComposedSaved {
  readonly plan: DispatchPlan;
  /** float32 `[T, W]`. */
  readonly scores: Tensor2D;
  readonly scorer: unknown;
  readonly weigh: unknown;
  /** float32 `[T, D]`, or null. */
  readonly factors: Tensor2D | null;
  readonly noise: NoiseSaved | null;
}

interface NoiseSaved {
  /** float32 `[T, W]`. */
  readonly draws: Tensor2D;
  readonly deviation: unknown;
}

/**
 * Puts stages together to a router of `pairs`. One device-to-host read (the logits). Masked tokens get no pair; noise is drawn only where
 * `options.rng` is given. `logits` and `scores` of the output are those that the choice saw, noise included, without null experts.
 *
 * @param stages - see {@link RouterStages}
 * @returns a router; prove it with `describeRouter`
 * @throws `plugin` when names of tensors meet or sizes are wrong; its forward throws `numerics` on a NaN or infinite logit, naming
 * layer and token, and `shape` on sizes
 * @example
 * ```ts
 * import { chooseTopK, composeRouter, linearScorer, weighScores } from '@moebius/routing/gates';
 *
 * const router = composeRouter({
 *   name: 'plain',
 *   experts: 8,
 *   topK: 2,
 *   scorer: linearScorer({ columns: 8 }),
 *   score: 'softmax',
 *   choose: chooseTopK({ topK: 2 }),
 *   weigh: weighScores({ renormalise: true }),
 * });
 * ```
 */
export function composeRouter(stages: RouterStages): Router {
  const { name, experts, topK, score, buffers, causal = true, trusted = false } = stages;
  const owners = [stages.scorer, ...(stages.noise?.deviation === undefined ? [] : [stages.noise.deviation])];
  return defineRouter({
    name,
    experts,
    topK,
    score,
    causal,
    trusted,
    parameterShapes: (modelWidth) => shapesOf(name, owners, modelWidth),
    bufferShapes: () => buffers?.shapes ?? {},
    initialise: (parameter, request) => initialOf(owners, parameter, request),
    ...(buffers?.initialise === undefined ? {} : { initialiseBuffer: buffers.initialise }),
    ...(buffers?.advance === undefined ? {} : { advance: buffers.advance }),
    forward: (x, parameters, options) => runOp(name, () => forward(stages, { x, parameters, options })),
    infer: (x, parameters, options) => runOp(name, () => forward(stages, { x, parameters, options }).route),
    backward: (saved, upstream) =>
      runOp(`${name}.backward`, () => backward(stages, saved as ComposedSaved, upstream)),
  });
}

function shapesOf(name: string, owners: readonly Scorer[], modelWidth: number): NamedShapes {
  const entries = owners.flatMap((owner) => Object.entries(owner.parameterShapes(modelWidth)));
  const shapes = Object.fromEntries(entries);
  if (Object.keys(shapes).length === entries.length) return shapes;
  throw new MoebiusError({
    code: 'plugin',
    message: `router "${name}": stages must have different names for their tensors, got ${entries.map(([key]) => key).join(', ')} (rename one)`,
    details: { router: name },
  });
}

/** As the stage says, else as every router begins: matrices normal, the rest 0. */
function initialOf(owners: readonly Scorer[], parameter: string, request: InitialRequest): Float32Array {
  const { shape, rng, standardDeviation } = request;
  const owner = owners.find((stage) => parameter in stage.parameterShapes(shape.at(-1) ?? 1));
  const given = owner?.initialise?.(parameter, request);
  if (given !== undefined) return given;
  const values = new Float32Array(shape.reduce((size, axis) => size * axis, 1));
  if (shape.length > 1) rng.fillNormal(values, { standardDeviation });
  return values;
}

interface Pass {
  readonly x: Tensor2D;
  readonly parameters: RouterParameters;
  readonly options: RouterOptions;
}

function forward(stages: RouterStages, pass: Pass): RouterOutput {
  const { x, parameters, options } = pass;
  const { experts, score, scorer, weigh, name } = stages;
  const width = experts + (stages.nulls ?? 0);
  assertPass(name, pass);
  const noise = options.rng === undefined ? undefined : stages.noise;
  const factors = drawFactors(noise, x, options);
  const rows = factors === null ? x : mul<Tensor2D>(x, factors);
  const { value: clean_TW, saved: scored } = scorer.forward(rows, parameters, options);
  assertShape(clean_TW, 'T W', { T: x.shape[0], W: width }, `router "${name}" logits`);
  const { logits: logits_TW, saved: noised } = addNoise(noise, clean_TW, pass);
  const scores_TW = scoreForward(logits_TW, score);
  const { plan, among } = choose(stages, logits_TW, options);
  const [logits, scores] = [logits_TW, scores_TW].map((tensor) => firstColumns(tensor, experts)) as [
    Tensor2D,
    Tensor2D,
  ];
  const weighed = weigh.forward({
    logits,
    scores,
    allScores: scores_TW,
    plan,
    ...(among === undefined ? {} : { among }),
  });
  const saved: ComposedSaved = {
    plan,
    scores: cloneTensor(scores_TW),
    scorer: scored,
    weigh: weighed.saved,
    factors,
    noise: noised,
  };
  return { route: { kind: 'pairs', plan, weights: weighed.value }, logits, scores, saved };
}

function drawFactors(noise: Noise | undefined, x: Tensor2D, { rng }: RouterOptions): Tensor2D | null {
  if (noise?.factors === undefined || rng === undefined) return null;
  return tensor2d(noise.factors(x.size, rng.fork('factors')), x.shape);
}

function addNoise(
  noise: Noise | undefined,
  clean_TW: Tensor2D,
  { x, parameters, options }: Pass,
): { readonly logits: Tensor2D; readonly saved: NoiseSaved | null } {
  if (noise?.draws === undefined || options.rng === undefined) return { logits: clean_TW, saved: null };
  const draws = tensor2d(noise.draws(clean_TW.size, options.rng.fork('draws')), clean_TW.shape);
  if (noise.deviation === undefined) return { logits: add<Tensor2D>(clean_TW, draws), saved: null };
  const { value: deviation_TW, saved } = noise.deviation.forward(x, parameters, options);
  return {
    logits: add<Tensor2D>(clean_TW, mul(deviation_TW, draws)),
    saved: { draws, deviation: saved },
  };
}

/** The one read. */
function choose(
  stages: RouterStages,
  logits_TW: Tensor2D,
  options: RouterOptions,
): { readonly plan: DispatchPlan; readonly among?: Uint8Array } {
  const { experts, score } = stages;
  const { mask, layer, buffers = {}, rng } = options;
  const [tokens, width] = logits_TW.shape;
  const logits = readHostSync(logits_TW);
  const bad = firstBadRow(logits, { tokens, width, ...(mask === undefined ? {} : { mask }) });
  if (bad >= 0) throw badLogits(logits, bad, { experts: width, layer });
  let scores: Float64Array | null = null;
  const { ids, tokenOffsets, among } = stages.choose({
    tokens,
    experts,
    width,
    logits,
    scores: () =>
      (scores ??= scoreRows(logits, { tokens, width, score, ...(mask === undefined ? {} : { mask }) })),
    options,
    buffers,
    ...(mask === undefined ? {} : { mask }),
    ...(rng === undefined ? {} : { rng: rng.fork('choice') }),
  });
  const pairs = width === experts ? { ids, tokenOffsets } : realPairs(ids, tokenOffsets, experts);
  const plan = planPairs(pairs.ids, { experts, tokenOffsets: pairs.tokenOffsets });
  return among === undefined ? { plan } : { plan, among };
}

function firstColumns(tensor_TW: Tensor2D, experts: number): Tensor2D {
  if (tensor_TW.shape[1] === experts) return tensor_TW;
  return slice(tensor_TW, [0, 0], [tensor_TW.shape[0], experts]);
}

function backward(stages: RouterStages, saved: ComposedSaved, upstream: RouterUpstream): RouterGradients {
  const { name, experts, scorer, score } = stages;
  const { plan, scores } = saved;
  const sizes = { T: plan.tokens, E: experts, N: plan.token.length };
  if (upstream.dlogits !== undefined) assertShape(upstream.dlogits, 'T E', sizes, `router "${name}" dlogits`);
  if (upstream.dscores !== undefined) assertShape(upstream.dscores, 'T E', sizes, `router "${name}" dscores`);
  const dweights = weightsOf(name, upstream);
  if (dweights !== null) assertShape(dweights, 'N', sizes, `router "${name}" dweights`);
  const via = dweights === null ? {} : stages.weigh.backward(saved.weigh, dweights);
  const width = scores.shape[1];
  const wide = (gradient: Tensor2D | undefined): Tensor2D | null => allColumns(gradient, width);
  const dscores_TW = addPresent(wide(upstream.dscores), wide(via.dscores));
  const dlogits_TW = addPresent(
    wide(upstream.dlogits),
    wide(via.dlogits),
    dscores_TW === null ? null : scoreBackward(scores, dscores_TW, score),
  );
  const { dx: drows, parameters } = scorer.backward(saved.scorer, dlogits_TW ?? zeros(scores.shape));
  const dx = saved.factors === null ? drows : mul<Tensor2D>(drows, saved.factors);
  const deviation = stages.noise?.deviation;
  if (deviation === undefined) return { dx, parameters };
  if (saved.noise === null || dlogits_TW === null) {
    const unused = deviation.parameterShapes(dx.shape[1]);
    return { dx, parameters: { ...parameters, ...zerosOf(unused) } };
  }
  const noisy = deviation.backward(saved.noise.deviation, mul<Tensor2D>(dlogits_TW, saved.noise.draws));
  return { dx: add<Tensor2D>(dx, noisy.dx), parameters: { ...parameters, ...noisy.parameters } };
}

function zerosOf(shapes: NamedShapes): RouterParameters {
  return Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, zeros([...shape])]));
}

function allColumns(gradient_TE: Tensor2D | undefined, width: number): Tensor2D | null {
  if (gradient_TE === undefined) return null;
  const experts = gradient_TE.shape[1];
  if (experts === width) return gradient_TE;
  return pad<Tensor2D>(gradient_TE, [
    [0, 0],
    [0, width - experts],
  ]);
}

function weightsOf(name: string, { route }: RouterUpstream): Tensor1D | null {
  if (route === undefined) return null;
  if (route.kind === 'pairs') return route.weights;
  throw new MoebiusError({
    code: 'plugin',
    message: `router "${name}": gradients must be of route kind pairs, got ${route.kind} (pass back what the executor returned)`,
    details: { kind: route.kind },
  });
}

function assertPass(name: string, { x, options }: Pass): void {
  assertShape(x, 'T D', {}, `router "${name}" x`);
  if (x.shape[0] === 0) {
    throw new MoebiusError({
      code: 'shape',
      message: `router "${name}" x: must have at least 1 token, got 0 (skip the layer for an empty batch)`,
      details: { tokens: 0 },
    });
  }
  assertCount(options.mask?.length ?? x.shape[0], x.shape[0], `router "${name}" mask length`);
}
