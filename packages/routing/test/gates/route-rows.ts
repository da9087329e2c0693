import { disposeTree, eye, tensor2d } from '@moebius/tensor';
import type { Tensor } from '@moebius/tensor';
import { expect } from 'vitest';

import { builtInRouters } from '../../src/gates/index.ts';
import type { Router, RouterOptions, RouterSettings } from '../../src/index.ts';
import { valuesOf } from '../../src/testing/checks.ts';
import { withoutLeak } from '../../src/testing/index.ts';

export const experts = 8;
/** The reference logits. */
export const z = [1.2, -0.4, 0.3, 2.0, 0.0, 1.9, -1.0, 0.7];
export const softmaxOfZ = [0.145639, 0.029404, 0.059212, 0.324126, 0.043866, 0.293281, 0.016137, 0.088335];

/** A built-in router for a layer of eight experts and width 8. */
export function made(name: string, options: RouterSettings = {}, topK: number = 2): Router {
  const factory = builtInRouters().find((one) => one.name === name);
  if (factory === undefined) throw new Error(`no router ${name}`);
  const place = { layer: 0, place: 0, sparseLayers: 1, experts, topK, modelWidth: experts };
  return factory.create(place, options);
}

/** Weight by expert of every token. */
export type Weights = Record<number, number>[];

/** Routes rows that are the logits themselves, where `weight` is the identity. */
export function route(
  router: Router,
  rows: readonly (readonly number[])[],
  given: { readonly options?: RouterOptions; readonly parameters?: Record<string, Tensor> } = {},
): Weights {
  return withoutLeak(router.name, () => {
    const x = tensor2d(rows.map((row) => [...row]));
    const own = given.parameters ?? { weight: eye(experts) };
    const output = router.forward(x, own, given.options ?? {});
    if (output.route.kind !== 'pairs') throw new Error('pairs expected');
    const { plan } = output.route;
    const values = valuesOf(output.route.weights);
    const weights: Weights = rows.map(() => ({}));
    for (const [n, source] of plan.source.entries())
      weights[Math.floor(source / experts)]![source % experts] = values[n]!;
    disposeTree([x, output, ...(given.parameters === undefined ? [own] : [])]);
    return weights;
  });
}

export function expectWeights(got: Record<number, number> | undefined, wanted: Record<number, number>): void {
  expect(Object.keys(got ?? {})).toEqual(Object.keys(wanted));
  for (const [expert, weight] of Object.entries(wanted)) expect(got?.[Number(expert)]).toBeCloseTo(weight, 5);
}
