import { runSync } from '@moebius/core';
import { createEngine, disposeTree } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import {
  acceptMerge,
  acceptSlots,
  createLocalExecutor,
  createResidentSource,
  defineExecutor,
  gatedExpert,
  identityExpert,
  listGradients,
} from '../src/index.ts';
import type { ExpertKind, ExpertParameters, Route } from '../src/index.ts';
import { kitRng, randomTensor } from '../src/testing/checks.ts';

beforeAll(async () => {
  await createEngine();
});

const width = 6;
const hiddenWidth = 5;
const kind = gatedExpert();

function createWeights(count: number): ExpertParameters[] {
  const rng = kitRng('accept routes');
  return Array.from({ length: count }, (_, e) => ({
    gate: randomTensor(rng.fork(`gate ${e}`), [hiddenWidth, width]),
    up: randomTensor(rng.fork(`up ${e}`), [hiddenWidth, width]),
    down: randomTensor(rng.fork(`down ${e}`), [hiddenWidth, width]),
  }));
}

describe('routes that are no pairs', () => {
  const messageOf = (route: Route, kinds: readonly ExpertKind[], parameters: ExpertParameters[]): string => {
    const hidden = randomTensor<Tensor2D>(kitRng('hidden'), [3, width]);
    const source = createResidentSource({ kinds, read: (_, e) => parameters[e]! });
    try {
      disposeTree(runSync(createLocalExecutor().forward({ layer: 2, hidden, route, experts: source })));
      return 'no error';
    } catch (error) {
      return (error as Error).message;
    } finally {
      disposeTree([hidden, Object.values(route)]);
    }
  };
  const mix = (groups: number, count: number): Tensor2D => randomTensor(kitRng('mix'), [groups, count]);

  it('say what cannot be merged, and which slots do not fit', () => {
    const parameters = createWeights(2);
    const gated = gatedExpert();
    const merge = (): Route => ({ kind: 'merge', mix: mix(1, 2), group: new Int32Array(3) });
    expect(messageOf(merge(), [gated, identityExpert()], [parameters[0]!, {}])).toBe(
      'layers[2] executor local: experts that are merged must be of one kind, got gated-silu and identity (give all experts of the layer one kind, or route pairs)',
    );
    const narrow = randomTensor(kitRng('narrow'), [3, width]);
    expect(messageOf(merge(), [gated, gated], [parameters[0]!, { ...parameters[1], up: narrow }])).toBe(
      'layers[2] executor local: experts that are merged must be of one shape, got up [5, 6] of expert 0 and [3, 6] of expert 1 (give all experts of the layer one width, or route pairs)',
    );
    const slots = { kind: 'slots' as const, dispatch: mix(3, 5), combine: mix(3, 5) };
    expect(messageOf(slots, [gated, gated], parameters)).toBe(
      'layers[2] slots of the route: must divide evenly, got 5 by 2',
    );
    const wide = { kind: 'merge' as const, mix: mix(1, 3), group: new Int32Array(3) };
    expect(messageOf(wide, [gated, gated], parameters)).toBe(
      'layers[2] experts of the route: must be 2, got 3',
    );
    const late = { kind: 'merge' as const, mix: mix(1, 2), group: Int32Array.of(0, 1, 0) };
    expect(messageOf(late, [gated, gated], parameters)).toBe(
      "ids[1]: must be in 0…0, got 1 (check the router's selection)",
    );
    disposeTree([parameters, narrow]);
  });

  it('are given to an executor of pairs as rows, so that any such executor can run them', () => {
    const seen: string[] = [];
    const local = createLocalExecutor({ path: 'general' });
    const own = defineExecutor({
      ...local,
      name: 'own',
      accepts: ['pairs'],
      *forward(input) {
        const { route, hidden, experts: source } = input;
        if (route.kind === 'pairs')
          seen.push(`${hidden.shape.join('x')} ${[...route.plan.source].join()} of ${source.experts}`);
        return yield* local.forward(input);
      },
    });
    const parameters = createWeights(2);
    const kinds = [kind, kind];
    const source = createResidentSource({ kinds, read: (_, e) => parameters[e]! });
    const hidden = randomTensor<Tensor2D>(kitRng('hidden'), [3, width]);
    const both = acceptMerge(acceptSlots(own));
    expect(both.accepts).toEqual(['pairs', 'slots', 'merge']);
    const routes: Route[] = [
      { kind: 'slots', dispatch: mix(3, 4), combine: mix(3, 4) },
      { kind: 'merge', mix: mix(3, 2), group: Int32Array.of(2, -1, 0) },
    ];
    for (const route of routes) {
      const { y, saved } = runSync(both.forward({ layer: 0, hidden, route, experts: source }));
      disposeTree([y, saved, listGradients(runSync(both.backward(saved, hidden)))]);
    }
    expect(seen).toEqual(['4x6 0,2,5,7 of 2', '3x6 6,2 of 3']);
    disposeTree([parameters, hidden, routes.map((route) => Object.values(route))]);
  });

  it('free everything when the executor of the rows throws', () => {
    const parameters = createWeights(2);
    const broken = defineExecutor({
      name: 'broken',
      accepts: ['pairs'],
      // eslint-disable-next-line require-yield -- a task that never waits
      *forward() {
        throw new Error('no rows');
      },
      // eslint-disable-next-line require-yield -- a task that never waits
      *backward() {
        throw new Error('no rows');
      },
    });
    const source = createResidentSource({ kinds: [kind, kind], read: (_, e) => parameters[e]! });
    const hidden = randomTensor<Tensor2D>(kitRng('hidden'), [3, width]);
    const routes: Route[] = [
      { kind: 'slots', dispatch: mix(3, 4), combine: mix(3, 4) },
      { kind: 'merge', mix: mix(1, 2), group: new Int32Array(3) },
    ];
    for (const route of routes) {
      expect(() =>
        runSync(acceptMerge(acceptSlots(broken)).forward({ layer: 0, hidden, route, experts: source })),
      ).toThrow('no rows');
    }
    disposeTree([parameters, hidden, routes.map((route) => Object.values(route))]);
  });
});
