/** @file TensorFlow.js optimizers over `store.variables()`, for one engine. */
import { createMemoryState, runSync } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import {
  cloneTensor,
  createParameterStore,
  disposeTree,
  exportParameters,
  mul,
  square,
  sub,
  sum,
  tensor1d,
  train,
  variableGrads,
} from '../../src/index.ts';
import type { Optimizer, Scalar } from '../../src/index.ts';
import { toList } from '../../src/testing/index.ts';

const made: { readonly [name: string]: () => Optimizer } = {
  sgd: () => train.sgd(0.1),
  momentum: () => train.momentum(0.05, 0.5),
  adam: () => train.adam(0.2),
  adamax: () => train.adamax(0.2),
  adagrad: () => train.adagrad(0.5),
  rmsprop: () => train.rmsprop(0.1),
};

const distance = (values: readonly number[]): number =>
  values.reduce((total, x, i) => total + (x - i) ** 2, 0);

/** Tests of one running engine. */
export function variablesSuite(): void {
  describe('variables', () => {
    it.each(Object.keys(made))('let tf.train.%s train the store', (name) => {
      const store = createParameterStore({ w: { shape: [3], data: Float32Array.of(1, -2, 3) } });
      const variables = store.variables();
      const target = tensor1d([0, 1, 2]);
      const optimizer = made[name]!();
      const loss = (): Scalar => sum(square(sub(variables['w']!, target))) as Scalar;
      const start = distance(toList(store.read('w')));
      for (let step = 1; step <= 10; step += 1) {
        const { value, grads } = variableGrads(loss, Object.values(variables));
        expect(toList(value)[0]).toBeCloseTo(distance(toList(store.read('w'))), 4);
        optimizer.applyGradients(grads);
        expect(toList(store.read('w'))).toEqual(toList(variables['w']!));
        expect(store.version('w')).toBe(step);
        disposeTree([value, grads]);
      }
      expect(distance(toList(store.read('w')))).toBeLessThan(0.7 * start);
      optimizer.dispose();
      // tfjs 4.22: MomentumOptimizer.dispose forgets the rate that its base class keeps.
      if (name === 'momentum') disposeTree((optimizer as unknown as { c: Scalar }).c);
      target.dispose();
      store.dispose();
    });

    it('take gradients of an explicit backward pass, by name', () => {
      const store = createParameterStore({ w: { shape: [2], data: Float32Array.of(1, 2) } });
      // A second store of the same ids: its variables have other names, and stay as they are.
      const twin = createParameterStore({ w: { shape: [2], data: Float32Array.of(1, 2) } });
      const [own, other] = [store.variables()['w']!, twin.variables()['w']!];
      expect(own.name).not.toBe(other.name);
      const gradient = tensor1d([1, -1]);
      const optimizer = train.sgd(0.5);
      optimizer.applyGradients([{ name: other.name, tensor: gradient }]);
      expect(toList(twin.read('w'))).toEqual([0.5, 2.5]);
      expect(toList(store.read('w'))).toEqual([1, 2]);
      optimizer.dispose();
      gradient.dispose();
      store.dispose();
      twin.dispose();
    });

    it('leave no stale read, snapshot or variable behind, whoever writes', () => {
      const store = createParameterStore({ w: { shape: [2], data: Float32Array.of(1, 2), unit: 'u' } });
      const w = store.variables()['w']!;
      const held = cloneTensor(store.read('w'));
      const snapshot = store.capture();
      const optimizer = train.sgd(1);
      const g = tensor1d([1, 1]);
      optimizer.applyGradients([{ name: w.name, tensor: g }]);
      expect([toList(held), toList(snapshot.read('w'))]).toEqual([
        [1, 2],
        [1, 2],
      ]);
      expect(toList(store.read('w'))).toEqual([0, 1]);
      store.update({ w: g }, { optimizer: { kind: 'sgd', lr: 1 } });
      expect(toList(w)).toEqual([-1, 0]);
      const doubled = mul(w, 2);
      expect(toList(doubled)).toEqual([-2, 0]);
      optimizer.applyGradients([{ name: w.name, tensor: g }]);
      expect(store.version('u')).toBe(3);
      const state = createMemoryState();
      const writer = state.writer();
      const now = store.capture();
      runSync(writer.begin());
      runSync(exportParameters(now, writer));
      runSync(writer.commit());
      const { version, tensors } = runSync(state.reader().read('u'));
      expect([version, [...new Float32Array(tensors['w']!.bytes.slice().buffer)]]).toEqual([3, [-2, -1]]);
      optimizer.dispose();
      disposeTree([held, g, doubled]);
      snapshot.dispose();
      now.dispose();
      store.dispose();
    });

    it('refuse a value of another type or shape', () => {
      const store = createParameterStore({ w: { shape: [2], data: Float32Array.of(1, 2) } });
      const w = store.variables()['w']!;
      const [whole, long] = [tensor1d([1, 2], 'int32'), tensor1d([1, 2, 3])];
      expect(() => w.assign(whole)).toThrow(/value of w: must be float32, got int32/);
      expect(() => w.assign(long)).toThrow(/value of w: axis 0 must be 2, got 3/);
      expect(toList(store.read('w'))).toEqual([1, 2]);
      disposeTree([whole, long]);
      store.dispose();
    });
  });
}
