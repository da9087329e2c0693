import { runSync } from '@moebius/core';
import { disposeTree, readHostSync, tensor, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import {
  createLocalExecutor,
  createResidentSource,
  gatedExpert,
  identityExpert,
  loadBalanceLoss,
  parseGateConfig,
  partShape,
  plainExpert,
  readStatistics,
  takeLossGradients,
  topKRouter,
  zLoss,
} from '../src/index.ts';
import type { ExpertKind, GateObservation } from '../src/index.ts';
import { kitRng, randomValues } from '../src/testing/checks.ts';

export const modelWidth = 5;
export const hiddenWidth = 4;
export const tokens = 6;

/** All numbers of a routed layer by name; `x` is one of them. */
export type LayerValues = Record<string, Float32Array>;

/** A whole routed layer: router, experts, losses. */
export interface LayerSetup {
  readonly gate: object;
  readonly kinds: readonly ExpertKind[];
  readonly mask?: Uint8Array;
  readonly path?: 'auto' | 'general';
}

const losses = [
  { loss: loadBalanceLoss({ pooling: 'pooled' }), coefficient: 0.7 },
  {
    loss: loadBalanceLoss({ pooling: 'per-sequence', sequenceTokens: 3, divideByTopK: true }),
    coefficient: 0.4,
  },
  { loss: zLoss(), coefficient: 0.2 },
];

export const homogeneous: readonly ExpertKind[] = Array.from({ length: 8 }, () => gatedExpert());
export const mixed: readonly ExpertKind[] = homogeneous.map((kind, e) =>
  e % 3 === 0 ? kind : e % 3 === 1 ? plainExpert({ activation: 'gelu', bias: true }) : identityExpert(),
);

/** Shapes of all numbers of a layer. */
export function shapesOf({ gate, kinds }: LayerSetup): Record<string, number[]> {
  const router = topKRouter(parseGateConfig(gate));
  const shapes: Record<string, number[]> = { x: [tokens, modelWidth] };
  for (const [name, shape] of Object.entries(router.parameterShapes(modelWidth)))
    shapes[`router.${name}`] = [...shape];
  for (const [e, kind] of kinds.entries()) {
    for (const part of Object.keys(kind.parts))
      shapes[`experts.${e}.${part}`] = partShape(kind, part, { modelWidth, hiddenWidth });
  }
  return shapes;
}

/** Seeded values for a layer. Router weights are wide, so that a step of a difference seldom changes the selection. */
export function randomLayer(setup: LayerSetup): LayerValues {
  const rng = kitRng('whole layer');
  return Object.fromEntries(
    Object.entries(shapesOf(setup)).map(([name, shape]) => [
      name,
      randomValues(
        rng.fork(name),
        shape.reduce((a, b) => a * b, 1),
        name === 'router.weight' ? 1.5 : 0.7,
      ),
    ]),
  );
}

/** Direction of the scalar that is differentiated. */
export const direction: Float32Array = randomValues(kitRng('whole layer dy'), tokens * modelWidth);

/** What one pass over the layer gives. */
export interface LayerPass {
  /** Σ direction·y + Σ coefficient·loss. */
  readonly objective: number;
  /** Which pairs were routed. */
  readonly routed: string;
  /** By name, when asked for. */
  readonly gradients: LayerValues;
}

/** Forward, and backward when asked, of router, experts and losses together. */
export function runLayer(setup: LayerSetup, values: LayerValues, withGradients: boolean): LayerPass {
  const config = parseGateConfig(setup.gate);
  const router = topKRouter(config);
  const shapes = shapesOf(setup);
  const held = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, tensor(values[name]!.slice(), shape)]),
  );
  const grouped = (prefix: string): Record<string, Tensor> =>
    Object.fromEntries(
      Object.entries(held)
        .filter(([name]) => name.startsWith(`${prefix}.`))
        .map(([name, value]) => [name.slice(prefix.length + 1), value]),
    );
  const selectionBias = Float32Array.from({ length: 8 }, (_, e) => 0.1 * Math.sin(e));
  const output = router.forward(held['x'] as Tensor2D, grouped('router'), {
    layer: 0,
    buffers: config.selectionBias ? { selectionBias } : {},
    ...(setup.mask === undefined ? {} : { mask: setup.mask }),
  });
  if (output.route.kind !== 'pairs') throw new Error('pairs expected');
  const source = createResidentSource({ kinds: setup.kinds, read: (_, e) => grouped(`experts.${e}`) });
  const executor = createLocalExecutor({ path: setup.path ?? 'auto' });
  const { y, saved } = runSync(
    executor.forward({ layer: 0, hidden: held['x'] as Tensor2D, route: output.route, experts: source }),
  );
  const observation: GateObservation = {
    config,
    plan: output.route.plan,
    logits: output.logits,
    scores: output.scores,
    ...(setup.mask === undefined ? {} : { mask: setup.mask }),
  };
  const statistics = losses.map(({ loss }) => loss.statistics(observation));
  const host = readStatistics(statistics);
  let objective = losses.reduce(
    (sum, { loss, coefficient }, i) => sum + coefficient * loss.value([host[i]!]),
    0,
  );
  const outputs = readHostSync(y);
  for (let i = 0; i < outputs.length; i += 1) objective += outputs[i]! * direction[i]!;
  const gradients: LayerValues = {};
  if (withGradients) {
    const dy = tensor2d(direction, [tokens, modelWidth]);
    const ofExperts = runSync(executor.backward(saved, dy));
    const ofLosses = takeLossGradients(
      losses.map(({ loss, coefficient }, i) =>
        loss.gradient(observation, { counts: [host[i]!.counts], layer: 0, scale: coefficient }),
      ),
    );
    const ofRouter = router.backward(output.saved, { route: ofExperts.route, ...ofLosses });
    const [left, right] = [ofExperts.hidden, ofRouter.dx].map((part) => readHostSync(part));
    gradients['x'] = Float32Array.from(left!, (value, i) => value + right![i]!);
    for (const [name, gradient] of Object.entries(ofRouter.parameters))
      gradients[`router.${name}`] = Float32Array.from(readHostSync(gradient));
    for (const [e, parts] of ofExperts.experts.entries()) {
      for (const [part, gradient] of Object.entries(parts))
        gradients[`experts.${e}.${part}`] = Float32Array.from(readHostSync(gradient));
    }
    disposeTree([dy, ofExperts, ofLosses, ofRouter]);
  }
  const routed = String(output.route.plan.source);
  disposeTree([held, output, y, saved, statistics]);
  return { objective, routed, gradients };
}
