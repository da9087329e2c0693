/**
 * @file Conformance kit of balance losses.
 */
import { cloneTensor, disposeTree, runOp, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import {
  check,
  checkClose,
  checkSame,
  checkGradient,
  kitRng,
  randomValues,
  valuesOf,
  withoutLeak,
} from './checks.ts';
import type { TestApi, Tolerance } from './checks.ts';
import type { BalanceLoss, GateObservation, HostStatistics, LossGradient } from '../balance-loss.ts';
import type { RouterBuffers } from '../define-router.ts';
import { gateScores, parseGateConfig } from '../gate-config.ts';
import type { GateConfig } from '../gate-config.ts';
import { addStatistics, readStatistics } from '../loss-statistics.ts';
import { planTopK } from '../plan-top-k.ts';
import { scoreBackward, scoreForward } from '../score-function.ts';
import { selectExperts } from '../select-experts.kernel.ts';

/** Settings of {@link describeBalanceLoss}. */
export interface DescribeBalanceLossOptions extends TestApi {
  /** Title; default the loss's name. */
  readonly title?: string;
  /** Tokens of a micro-batch, a multiple of 2; default 8. */
  readonly tokens?: number;
  /** Of gradients against differences. */
  readonly tolerance?: Tolerance;
  /** The router's host arrays that the loss reads. Default none. */
  readonly buffers?: RouterBuffers;
}

const experts = 4;
const modelWidth = 3;

/** A gate for every score function. */
function configurations(): GateConfig[] {
  return gateScores.map((score) => parseGateConfig({ experts, topK: 2, score }));
}

/** What values are multiplied by before they are compared. */
const ENLARGED = 20;

/** One layer's logits on the host, with its plan fixed. */
interface Layer {
  readonly logits: Float32Array;
  readonly mask: Uint8Array;
  readonly plan: GateObservation['plan'];
  /** float32 `[E, D]`: a matrix of the router, of no consequence to the logits here. */
  readonly weight: Float32Array;
  readonly buffers: RouterBuffers;
}

/**
 * Registers the tests that every balance loss must pass, on gates of every score function. Start an engine before they run.
 *
 * Statistics add up over micro-batches; masked tokens count for nothing; no tokens are worth 0; the gradient is that of the value
 * over two layers, by the logits and by the router's matrix `weight`, and proportional to `scale`; a loss that does not say that it needs the
 * sums or the parameters gets none; nothing is leaked or written; two runs give equal bytes. Tokens have domains 0 and 1.
 *
 * @param loss - the loss
 * @param options - `describe` and `it` of the test runner
 */
export function describeBalanceLoss(loss: BalanceLoss, options: DescribeBalanceLossOptions): void {
  const { describe, it, tokens = 8 } = options;
  describe(`balance loss ${options.title ?? loss.name}`, () => {
    for (const config of configurations()) {
      const layer = (label: string, masked: readonly number[] = []): Layer =>
        createLayer(config, label, { tokens, masked, buffers: options.buffers ?? {} });

      it(`${config.score}: adds up over micro-batches`, () => {
        withoutLeak(loss.name, () => {
          const [left, right] = [layer('left'), layer('right', [1])];
          const both = joinLayers(config, left, right);
          const sum = addStatistics(statisticsOf(loss, config, left), statisticsOf(loss, config, right));
          const whole = statisticsOf(loss, config, both);
          checkClose(sum.counts, whole.counts, 'counts');
          checkClose(sum.sums, whole.sums, 'sums');
          checkClose([loss.value([sum])], [loss.value([whole])], 'value');
        });
      });

      it(`${config.score}: ignores masked tokens`, () => {
        withoutLeak(loss.name, () => {
          const masked = layer('one', [0, 3]);
          const logits = masked.logits.slice();
          logits.fill(5, 0, 2);
          const [before, after] = [masked, { ...masked, logits }].map((entry) =>
            statisticsOf(loss, config, entry),
          );
          checkClose(after!.sums, before!.sums, 'sums', { relative: 1e-6, absolute: 1e-6 });
          const gradient = gradientOf(loss, config, { layers: [masked], at: 0, scale: 1 });
          for (const t of [0, 3])
            checkClose(
              gradient.slice(t * experts, (t + 1) * experts),
              new Float64Array(experts),
              `gradient of masked token ${t}`,
              { absolute: 1e-7 },
            );
          check(loss.value([]) === 0, `value without layers: must be 0, got ${loss.value([])}`);
          const empty = createLayer(config, 'none', {
            tokens,
            masked: Array.from({ length: tokens }, (_, t) => t),
            buffers: options.buffers ?? {},
          });
          const nothing = loss.value([statisticsOf(loss, config, empty)]);
          check(nothing === 0, `value without tokens: must be 0, got ${nothing}`);
          checkSame(
            gradientOf(loss, config, { layers: [empty], at: 0, scale: 1 }).map(Math.abs),
            new Float64Array(tokens * experts),
            'gradient without tokens',
          );
        });
      });

      it(`${config.score}: has the gradient of its value in each of two layers`, () => {
        withoutLeak(loss.name, () => {
          const layers = [layer('first', [2]), layer('second')];
          for (const at of [0, 1]) {
            const valueAt = valueWith(loss, config, { layers, at });
            const got = gradientOf(loss, config, { layers, at, scale: 1 });
            // A mean over tokens has small slopes: enlarged, kinks stand out from smooth differences.
            checkGradient(
              got.map((value) => ENLARGED * value),
              {
                absolute: 5e-4,
                ...options.tolerance,
                subject: `gradient of layer ${at}`,
                f: (logits) => ENLARGED * valueAt({ logits }),
                at: layers[at]!.logits,
                step: 0.05,
              },
            );
            checkWeightGradient(loss, config, { layers, at, tolerance: options.tolerance ?? {} });
            const tripled = gradientOf(loss, config, { layers, at, scale: 3 });
            checkClose(
              tripled,
              got.map((value) => 3 * value),
              'gradient at scale 3',
              { relative: 1e-4, absolute: 1e-6 },
            );
          }
        });
      });

      it(`${config.score}: gives the same bytes twice and is finite`, () => {
        withoutLeak(loss.name, () => {
          const [first, second] = [0, 1].map(() => statisticsOf(loss, config, layer('same')));
          checkSame(second!.sums, first!.sums, 'sums of run 2');
          check(Number.isFinite(loss.value([first!])), 'value: must be finite');
        });
      });
    }
  });
}

function createLayer(
  config: GateConfig,
  label: string,
  shape: { tokens: number; masked: readonly number[]; buffers: RouterBuffers },
): Layer {
  // Not within a step of 0, where ReLU has no derivative.
  const logits = randomValues(kitRng(`loss ${label}`), shape.tokens * experts).map((logit) =>
    Math.abs(logit) < 0.1 ? logit + (logit < 0 ? -0.1 : 0.1) : logit,
  );
  const weight = randomValues(kitRng('loss weight'), experts * modelWidth);
  const mask = new Uint8Array(shape.tokens).fill(1);
  for (const t of shape.masked) mask[t] = 0;
  const { ids } = selectExperts({ logits, mask }, config);
  const plan = planTopK(ids, { tokens: shape.tokens, experts, topK: config.topK, mask });
  return { logits, mask, plan, weight, buffers: shape.buffers };
}

function joinLayers(config: GateConfig, left: Layer, right: Layer): Layer {
  const logits = Float32Array.of(...left.logits, ...right.logits);
  const mask = Uint8Array.of(...left.mask, ...right.mask);
  const { ids } = selectExperts({ logits, mask }, config);
  const plan = planTopK(ids, { tokens: mask.length, experts, topK: config.topK, mask });
  return { ...left, logits, mask, plan };
}

function observe<T>(
  loss: BalanceLoss,
  layer: Layer,
  { config, use }: { readonly config: GateConfig; readonly use: (observation: GateObservation) => T },
): T {
  const shape: [number, number] = [layer.mask.length, experts];
  const logits = tensor2d(layer.logits.slice(), shape);
  const scores = runOp('kit.scores', () => scoreForward(logits, config.score));
  const weight = tensor2d(layer.weight.slice(), [experts, modelWidth]);
  const result = use({
    config,
    plan: layer.plan,
    logits,
    scores,
    mask: layer.mask,
    buffers: layer.buffers,
    domain: Int32Array.from(layer.mask, (_, t) => Math.floor(t / 4) % 2),
    ...(loss.needs?.includes('parameters') === true ? { parameters: { weight } } : {}),
  });
  disposeTree([logits, scores, weight]);
  return result;
}

function statisticsOf(loss: BalanceLoss, config: GateConfig, layer: Layer): HostStatistics {
  return observe(loss, layer, {
    config,
    use: (observation) => {
      const statistics = loss.statistics(observation);
      const [host] = readStatistics([statistics]);
      disposeTree(statistics);
      return host!;
    },
  });
}

interface GradientRequest {
  readonly layers: readonly Layer[];
  readonly at: number;
  readonly scale: number;
}

/** The value with one layer changed. */
function valueWith(
  loss: BalanceLoss,
  config: GateConfig,
  { layers, at }: Pick<GradientRequest, 'layers' | 'at'>,
): (changes: Partial<Layer>) => number {
  const fixed = layers.map((layer) => statisticsOf(loss, config, layer));
  return (changes) => loss.value(fixed.with(at, statisticsOf(loss, config, { ...layers[at]!, ...changes })));
}

/** What the loss gives for one layer; the tensors are disposed after use. */
function useGradient(
  loss: BalanceLoss,
  { config, request }: { readonly config: GateConfig; readonly request: GradientRequest },
  use: (gradient: LossGradient, observation: GateObservation) => Float64Array,
): Float64Array {
  const reduced = request.layers.map((layer) => statisticsOf(loss, config, layer));
  return observe(loss, request.layers[request.at]!, {
    config,
    use: (observation) => {
      const gradient = loss.gradient(observation, {
        counts: reduced.map(({ counts }) => counts),
        ...(loss.needs?.includes('sums') === true ? { sums: reduced.map(({ sums }) => sums) } : {}),
        layer: request.at,
        scale: request.scale,
      });
      const values = use(gradient, observation);
      disposeTree(gradient);
      return values;
    },
  });
}

/** Gradient by the logits `[T, E]`: what the loss gives for logits, plus what it gives for scores through the gate's score. */
function gradientOf(loss: BalanceLoss, config: GateConfig, request: GradientRequest): Float64Array {
  const layer = request.layers[request.at]!;
  return useGradient(loss, { config, request }, (gradient, { scores }) => {
    const total = Float64Array.from(
      gradient.dlogits === undefined ? new Float32Array(layer.logits.length) : valuesOf(gradient.dlogits),
    );
    if (gradient.dscores !== undefined) addThroughScores(total, gradient.dscores, scores, config);
    return total;
  });
}

/** Holds the gradient by the router's weight to differences, for a loss that is given it. */
function checkWeightGradient(
  loss: BalanceLoss,
  config: GateConfig,
  { layers, at, tolerance }: Pick<GradientRequest, 'layers' | 'at'> & { readonly tolerance: Tolerance },
): void {
  const got = weightGradientOf(loss, config, { layers, at, scale: 1 });
  if (loss.needs?.includes('parameters') !== true) {
    checkSame(got, new Float64Array(got.length), 'gradient by a weight that it does not need');
    return;
  }
  const valueAt = valueWith(loss, config, { layers, at });
  const subject = `gradient of layer ${at} by the router's weight`;
  checkGradient(got, {
    ...tolerance,
    subject,
    f: (weight) => valueAt({ weight }),
    at: layers[at]!.weight,
    step: 0.05,
  });
}

/** Gradient by the router's weight `[E, D]`. */
function weightGradientOf(loss: BalanceLoss, config: GateConfig, request: GradientRequest): Float64Array {
  return useGradient(loss, { config, request }, ({ parameters = {} }) => {
    const { weight, ...others } = parameters;
    const unknown = Object.keys(others).join(', ');
    check(unknown === '', `gradient: must be of parameters weight, got ${unknown}`);
    return weight === undefined
      ? new Float64Array(experts * modelWidth)
      : Float64Array.from(valuesOf(weight));
  });
}

function addThroughScores(
  total: Float64Array,
  dscores: Tensor2D,
  scores: Tensor2D,
  config: GateConfig,
): void {
  const dlogits = runOp('kit.scores', () => cloneTensor(scoreBackward(scores, dscores, config.score)));
  for (const [i, value] of valuesOf(dlogits).entries()) total[i] = (total[i] ?? 0) + value;
  dlogits.dispose();
}
