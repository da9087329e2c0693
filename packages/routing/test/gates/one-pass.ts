/** @file One pass of a router of this folder, and what it chose. */
import { disposeTree } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { Route, Router, RouterOptions, RouterOutput } from '../../src/index.ts';
import { kitRng, randomTensor, valuesOf } from '../../src/testing/checks.ts';

export const width = 5;

/** One forward, read with `see`; everything is freed. */
export function run<R>(
  router: Router,
  tokens: number,
  {
    options = {},
    x = randomTensor<Tensor2D>(kitRng('rows'), [tokens, width]),
    see,
  }: { readonly options?: RouterOptions; readonly x?: Tensor2D; readonly see: (output: RouterOutput) => R },
): R {
  const parameters = Object.fromEntries(
    Object.entries(router.parameterShapes(width)).map(([name, shape]) => [
      name,
      randomTensor(kitRng(name), shape),
    ]),
  );
  const buffers = Object.fromEntries(
    Object.entries(router.bufferShapes()).map(([name, shape]) => [
      name,
      router.initialiseBuffer!(
        name,
        shape.reduce((a, b) => a * b, 1),
      ),
    ]),
  );
  const output = router.forward(x, parameters, { layer: 3, buffers, ...options });
  const seen = see(output);
  disposeTree([parameters, output, x]);
  return seen;
}

/** Loads, and the experts of a token, best first. */
export function pairsOf(route: Route): {
  readonly load: number[];
  readonly experts: (t: number) => number[];
} {
  if (route.kind !== 'pairs') throw new Error('pairs expected');
  const { plan } = route;
  return {
    load: [...plan.stats.load],
    experts: (t) =>
      [...plan.slot.subarray(plan.tokenOffsets[t], plan.tokenOffsets[t + 1])].map(
        (pair) => plan.source[pair]! % plan.experts,
      ),
  };
}

/** A pass in training. */
export const train: RouterOptions = { phase: 'train', rng: kitRng('train') };
/** `[E]`. */
export const loadOf = ({ route }: RouterOutput): number[] => pairsOf(route).load;
/** Experts of every token as text. */
export const choicesOf = ({ route, logits }: RouterOutput): string =>
  Array.from({ length: logits.shape[0] }, (_, t) => pairsOf(route).experts(t).join('+')).join(' ');

/** The values of a tensor that is freed. */
export function valuesOfOnce(tensor: Tensor2D): Float32Array {
  const values = valuesOf(tensor);
  tensor.dispose();
  return values;
}
