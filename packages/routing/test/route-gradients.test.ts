import { runSync } from '@moebius/core';
import { createEngine, disposeTree, readHostSync, tensor, tensor2d } from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, it } from 'vitest';

import {
  createLocalExecutor,
  createResidentSource,
  gatedExpert,
  identityExpert,
  listGradients,
  partShape,
  plainExpert,
} from '../src/index.ts';
import type { ExpertKind, ExpertParameters, Route } from '../src/index.ts';
import { checkGradient, withoutLeak } from '../src/testing/index.ts';
import { inner, kitRng, randomValues } from '../src/testing/checks.ts';

beforeAll(async () => {
  await createEngine();
});

const [tokens, width, hiddenWidth] = [4, 3, 4];

interface Setup {
  readonly kinds: readonly ExpertKind[];
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly route: (held: Readonly<Record<string, Tensor>>) => Route;
}

const gated = gatedExpert();
const biased = plainExpert({ activation: 'gelu', bias: true });
const setups: Record<string, Setup> = {
  'slots, experts of several kinds': {
    kinds: [gated, biased, identityExpert()],
    shapes: { dispatch: [tokens, 6], combine: [tokens, 6] },
    route: ({ dispatch, combine }) => ({
      kind: 'slots',
      dispatch: dispatch as Tensor2D,
      combine: combine as Tensor2D,
    }),
  },
  ...Object.fromEntries(
    [gated, biased].map((kind) => [
      `merge, ${kind.name}`,
      {
        kinds: [kind, kind, kind],
        shapes: { mix: [2, 3] },
        route: ({ mix }) => ({ kind: 'merge', mix: mix as Tensor2D, group: Int32Array.of(1, 0, -1, 1) }),
      } satisfies Setup,
    ]),
  ),
};

/** Every number of a layer: hidden rows, route, experts, in the order of `listGradients`. */
function shapesOf({ kinds, shapes }: Setup): Record<string, readonly number[]> {
  const all: Record<string, readonly number[]> = { hidden: [tokens, width], ...shapes };
  for (const [e, kind] of kinds.entries())
    for (const part of Object.keys(kind.parts))
      all[`experts.${e}.${part}`] = partShape(kind, part, { modelWidth: width, hiddenWidth });
  return all;
}

describe('gradients of routes that are no pairs equal central differences', () => {
  for (const [title, setup] of Object.entries(setups)) {
    it(title, () => {
      const shapes = shapesOf(setup);
      const values = Object.fromEntries(
        Object.entries(shapes).map(([name, shape]) => [
          name,
          randomValues(
            kitRng(name),
            shape.reduce((a, b) => a * b, 1),
            0.7,
          ),
        ]),
      );
      const direction = randomValues(kitRng('direction'), tokens * width);
      const executor = createLocalExecutor();
      const pass = (at: Record<string, Float32Array>, backward: boolean): [number, Float32Array[]] => {
        const held = Object.fromEntries(
          Object.entries(shapes).map(([name, shape]) => [name, tensor(at[name]!.slice(), [...shape])]),
        );
        const read = (_: number, e: number): ExpertParameters =>
          Object.fromEntries(
            Object.keys(setup.kinds[e]!.parts).map((part) => [part, held[`experts.${e}.${part}`]!]),
          );
        const experts = createResidentSource({ kinds: setup.kinds, read });
        const input = { layer: 0, hidden: held['hidden'] as Tensor2D, route: setup.route(held), experts };
        const { y, saved } = runSync(executor.forward(input));
        const total = inner(readHostSync(y), direction);
        const dy = tensor2d(direction.slice(), [tokens, width]);
        const gradients = backward ? listGradients(runSync(executor.backward(saved, dy))) : [];
        const host = gradients.map((gradient) => Float32Array.from(readHostSync(gradient)));
        disposeTree([held, y, saved, dy, gradients]);
        return [total, host];
      };
      withoutLeak(title, () => {
        const [, gradients] = pass(values, true);
        for (const [i, name] of Object.keys(shapes).entries()) {
          checkGradient(gradients[i]!, {
            subject: name,
            at: values[name]!,
            f: (moved) => pass({ ...values, [name]: moved }, false)[0],
          });
        }
      });
    });
  }
});
