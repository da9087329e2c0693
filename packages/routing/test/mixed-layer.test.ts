import { runSync } from '@moebius/core';
import {
  createEngine,
  createParameterStore,
  disposeTree,
  mean,
  mul,
  runOp,
  square,
  sub,
} from '@moebius/tensor';
import type { ParameterInit, ParameterStore, Tensor2D } from '@moebius/tensor';
import { beforeAll, describe, expect, it } from 'vitest';

import { constantExpert, loraExpert } from '../src/experts/index.ts';
import {
  createLocalExecutor,
  createResidentSource,
  gateBackward,
  gateForward,
  gatedExpert,
  parseGateConfig,
  partShape,
  plainExpert,
} from '../src/index.ts';
import type { ExpertKind, ExpertParameters } from '../src/index.ts';
import { kitRng, randomTensor, randomValues, valuesOf, withoutLeak } from '../src/testing/checks.ts';

const size = { modelWidth: 6, hiddenWidth: 8 };
const lora = loraExpert({ rank: 2, alpha: 3 });

beforeAll(async () => {
  await createEngine();
});

describe('E4: a layer of several kinds', () => {
  it('trains: the loss falls and the parts of every kind move, those of a frozen base do not', () => {
    withoutLeak('training', () => {
      const kinds = [gatedExpert(), plainExpert({ activation: 'relu', bias: true }), lora, constantExpert()];
      const store = createLayerStore(kinds);
      const before = valuesById(store);
      const losses = Array.from({ length: 40 }, () => trainStep(store, kinds));
      expect(losses.at(-1)).toBeLessThan(0.6 * losses[0]!);
      const after = valuesById(store);
      for (const id of store.ids()) {
        const moved = after[id]!.some((value, i) => value !== before[id]![i]);
        expect(`${id} moved: ${moved}`).toBe(`${id} moved: ${!id.startsWith('base.')}`);
      }
      store.dispose();
    });
  });
});

function createLayerStore(kinds: readonly ExpertKind[]): ParameterStore {
  const initial: { [id: string]: ParameterInit } = {
    router: { shape: [kinds.length, 6], data: randomValues(kitRng('router'), kinds.length * 6) },
  };
  const put = (id: string, shape: number[]): void => {
    const length = shape.reduce((product, axis) => product * axis, 1);
    initial[id] = { shape, data: randomValues(kitRng(id), length, 0.4) };
  };
  for (const [e, kind] of kinds.entries()) {
    for (const part of Object.keys(kind.parts)) put(`${e}.${part}`, partShape(kind, part, size));
    for (const part of Object.keys(kind.base?.kind.parts ?? {}))
      put(`base.${part}`, partShape(kind, part, size));
  }
  return createParameterStore(initial);
}

function valuesById(store: ParameterStore): Record<string, Float32Array> {
  return Object.fromEntries(store.ids().map((id) => [id, valuesOf(store.read(id))]));
}

/** One step of regression towards a fixed target; the loss before it. */
function trainStep(store: ParameterStore, kinds: readonly ExpertKind[]): number {
  const x = randomTensor<Tensor2D>(kitRng('rows'), [24, 6]);
  const target = randomTensor<Tensor2D>(kitRng('target'), [24, 6]);
  const read = (e: number): ExpertParameters => {
    const kind = kinds[e]!;
    const own = Object.keys(kind.parts).map((part) => [part, store.read(`${e}.${part}`)]);
    const base = Object.keys(kind.base?.kind.parts ?? {}).map((part) => [part, store.read(`base.${part}`)]);
    return Object.fromEntries([...own, ...base]) as ExpertParameters;
  };
  const config = parseGateConfig({ experts: kinds.length, topK: 2, renormalise: true });
  const executor = createLocalExecutor();
  const experts = createResidentSource({ kinds, read: (_layer, e) => read(e) });
  const gate = gateForward(x, { weight: store.read('router') as Tensor2D }, { config });
  const { y, saved } = runSync(executor.forward({ layer: 0, hidden: x, route: gate.route, experts }));
  const { loss, dy } = runOp('loss', () => ({
    loss: mean(square(sub(y, target))),
    dy: mul<Tensor2D>(sub(y, target), 2 / y.size),
  }));
  const gradients = runSync(executor.backward(saved, dy));
  const dweights = gradients.route.kind === 'pairs' ? gradients.route.weights : undefined;
  const router = gateBackward(gate.saved, { dweights: dweights! });
  const named = Object.fromEntries(
    gradients.experts.flatMap((own, e) => Object.entries(own).map(([part, g]) => [`${e}.${part}`, g])),
  );
  store.update({ ...named, router: router.dweight }, { optimizer: { lr: 0.03, weightDecay: 0.01 } });
  const [value] = valuesOf(loss);
  disposeTree([x, target, gate, y, saved, loss, dy, gradients, router]);
  return value!;
}
