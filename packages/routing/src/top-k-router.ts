/**
 * @file The built-in gate as a router by value.
 *
 * Letters: `E` experts, `D` model width.
 */
import { MoebiusError } from '@moebius/core';
import type { Tensor1D, Tensor2D } from '@moebius/tensor';

import { defineRouter } from './define-router.ts';
import type { Router, RouterBuffers, RouterParameters } from './define-router.ts';
import type { RouteGradients } from './expert-executor.ts';
import type { GateConfig } from './gate-config.ts';
import { gateBackward, gateForward, gateInference } from './gate.ts';
import type { GateParameters, GateSaved } from './gate.ts';

/**
 * The gate pipeline as a router named `top-k`. Parameters `weight` `[E, D]` and, with a logit bias, `bias` `[E]`; buffer
 * `selectionBias` `[E]` when the gate has one.
 *
 * @param config - a parsed gate
 */
export function topKRouter(config: GateConfig): Router {
  return defineRouter({
    name: 'top-k',
    experts: config.experts,
    topK: config.topK,
    score: config.score,
    options: { ...config },
    gate: config,
    trusted: true,
    parameterShapes: (modelWidth) => ({
      weight: [config.experts, modelWidth],
      ...(config.logitBias ? { bias: [config.experts] } : {}),
    }),
    bufferShapes: () => (config.selectionBias ? { selectionBias: [config.experts] } : {}),
    forward: (x, parameters, { buffers, layer, mask }) =>
      gateForward(x, gateParameters(parameters, buffers), gateOptions(config, layer, mask)),
    infer: (x, parameters, { buffers, layer, mask }) =>
      gateInference(x, gateParameters(parameters, buffers), gateOptions(config, layer, mask)),
    backward: (saved, { route, dlogits, dscores }) => {
      const { dx, dweight, dbias } = gateBackward(saved as GateSaved, {
        ...(dlogits === undefined ? {} : { dlogits }),
        ...(dscores === undefined ? {} : { dscores }),
        ...weightsOf(route),
      });
      return { dx, parameters: { weight: dweight, ...(dbias === undefined ? {} : { bias: dbias }) } };
    },
  });
}

function gateOptions(
  config: GateConfig,
  layer: number | undefined,
  mask: Uint8Array | undefined,
): Parameters<typeof gateForward>[2] {
  return { config, ...(layer === undefined ? {} : { layer }), ...(mask === undefined ? {} : { mask }) };
}

function gateParameters(parameters: RouterParameters, buffers: RouterBuffers | undefined): GateParameters {
  const { weight, bias } = parameters;
  const selectionBias = buffers?.['selectionBias'];
  return {
    weight: weight as Tensor2D,
    ...(bias === undefined ? {} : { bias: bias as Tensor1D }),
    ...(selectionBias === undefined ? {} : { selectionBias }),
  };
}

function weightsOf(route: RouteGradients | undefined): { dweights?: Tensor1D } {
  if (route === undefined) return {};
  if (route.kind === 'pairs') return { dweights: route.weights };
  throw new MoebiusError({
    code: 'plugin',
    message: `router top-k: gradients must be of route kind pairs, got ${route.kind} (pass back what the executor returned)`,
    details: { kind: route.kind },
  });
}
