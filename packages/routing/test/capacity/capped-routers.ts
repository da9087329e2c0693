import { randomTensor, kitRng, randomValues } from '../../src/testing/checks.ts';
import type { Tensor, Tensor2D } from '@moebius/tensor';

import {
  capacityPolicy,
  parseCapacityConfig,
  parseGateConfig,
  topKRouter,
  withCapacity,
} from '../../src/index.ts';
import type { Router, RouterOptions } from '../../src/index.ts';

export const [tokens, experts, width] = [12, 6, 4];
export const placement = { devices: 2 };
export const gates = {
  'softmax, raw': { experts, topK: 2, scale: 3 },
  'softmax, renormalised': { experts, topK: 2, renormalise: true },
  'softmax after top-k': { experts, topK: 2, scoreAfterTopK: true },
  'sigmoid, bias, renormalised, scaled': {
    experts,
    topK: 3,
    score: 'sigmoid',
    selectionBias: true,
    renormalise: true,
    renormaliseEpsilon: 1e-20,
    scale: 2.5,
  },
} as const;
export const policies = {
  'token drop': { method: 'drop', gamma: 0.6 },
  'expanded drop': { method: 'drop', gamma: 1, scope: 'rank', expand: { kind: 'local' }, placement },
  reroute: { method: 'reroute', gamma: 0.75 },
  'device drop': { method: 'drop', gamma: 0.5, granularity: 'device', placement },
} as const;
export const norms = ['router', 'none', 'primary', 'kept'] as const;

export interface Bench {
  readonly x: Tensor2D;
  readonly parameters: { readonly weight: Tensor };
  readonly options: RouterOptions;
}

export function createBench(mask?: Uint8Array): Bench {
  const rng = kitRng('with capacity');
  const buffers = { selectionBias: randomValues(rng.fork('bias'), experts, 0.3) };
  return {
    x: randomTensor(rng.fork('x'), [tokens, width]),
    parameters: { weight: randomTensor(rng.fork('weight'), [experts, width], 1.5) },
    options: { layer: 3, buffers, ...(mask === undefined ? {} : { mask }) },
  };
}

export function capped(gate: object, settings: object): Router {
  return withCapacity(topKRouter(parseGateConfig(gate)), capacityPolicy(parseCapacityConfig(settings)));
}

export const without = (bench: Bench, gate: object): RouterOptions =>
  'selectionBias' in gate ? bench.options : { ...bench.options, buffers: {} };
