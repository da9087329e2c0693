/** @file The parameter store, for one engine. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createMemoryState, isMoebiusError, runSync } from '@moebius/core';
import type { MemoryState } from '@moebius/core';

import {
  cloneTensor,
  countTensors,
  createParameterStore,
  disposeTree,
  exportParameters,
  importParameters,
  tensor1d,
} from '../../src/index.ts';
import type { AdamWSettings, ParameterStore, Snapshot, Tensor } from '../../src/index.ts';
import {
  expectNoTensorLeak,
  installTensorMatchers,
  referenceAdamW,
  sampleTensor,
  toList,
} from '../../src/testing/index.ts';
import type { EngineSuite, ReferenceAdamWState } from '../../src/testing/index.ts';
import { withPortableBodies } from '../operations/portable-bodies.ts';

/** A store of two units with odd sizes, the same every time. */
function smallStore(): ParameterStore {
  const data = (size: number, seed: number): Float32Array =>
    Float32Array.from({ length: size }, (_, i) => Math.sin(seed + i));
  return createParameterStore({
    'a.weight': { shape: [3, 5], data: data(15, 1), unit: 'a' },
    'a.bias': { shape: [5], data: data(5, 2), unit: 'a' },
    'b.weight': { shape: [7, 11], data: data(77, 3) },
  });
}

function gradientsOf(store: ParameterStore, seed: number, scale = 1): { [id: string]: Tensor } {
  return Object.fromEntries(
    store.ids().map((id) => [id, sampleTensor(store.shape(id), `${id} ${seed}`, scale)]),
  );
}

export function parametersSuite(_context: EngineSuite): void {
  installTensorMatchers();
  expectNoTensorLeak();
  describeAdamW();
  describeUpdates();
  describeReads();
  describeState();
}

function describeAdamW(): void {
  describe('AdamW', () => {
    it('follows the loop oracle for 20 steps, with clipping, decay by pattern and a parameter that joins late', () => {
      const store = smallStore();
      const settings: AdamWSettings = {
        lr: 0.01,
        betas: [0.9, 0.95],
        epsilon: 1e-6,
        weightDecay: [
          { pattern: 'bias$', weightDecay: 0 },
          { pattern: '.', weightDecay: 0.1 },
        ],
      };
      const states: { [id: string]: ReferenceAdamWState } = {};
      for (const id of store.ids()) {
        const value = toList(store.read(id));
        const zeros = value.map(() => 0);
        states[id] = { value, first: zeros, second: zeros, step: 0 };
      }
      for (let step = 1; step <= 20; step += 1) {
        const gradients = gradientsOf(store, step);
        if (step < 4) {
          gradients['a.bias']!.dispose();
          delete gradients['a.bias'];
        }
        const lists = Object.entries(gradients).map(([id, g]): [string, number[]] => [id, toList(g)]);
        const norm = Math.sqrt(lists.flatMap(([, g]) => g).reduce((total, x) => total + x * x, 0)) * 0.5;
        const scale = 0.5 * Math.min(1, 2 / (norm + 1e-6));
        const report = store.update(gradients, { optimizer: settings, clipNorm: 2, gradientScale: 0.5 });
        expect(report.applied).toBe(true);
        expect(report.norm).toBeCloseTo(norm, 3);
        for (const [id, g] of lists) {
          const own = {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-6,
            weightDecay: id === 'a.bias' ? 0 : 0.1,
          };
          states[id] = referenceAdamW(
            states[id]!,
            g.map((x) => x * scale),
            own,
          );
        }
        disposeTree(gradients);
      }
      const moments = store.optimizerState();
      for (const [id, expected] of Object.entries(states)) {
        expect(store.read(id)).toBeAllClose(expected.value, { rtol: 1e-4, atol: 1e-5 });
        expect(moments[id]!.slots['first']!).toBeAllClose(expected.first, { rtol: 1e-4, atol: 1e-6 });
        expect(moments[id]!.slots['second']!).toBeAllClose(expected.second, { rtol: 1e-4, atol: 1e-7 });
        expect(moments[id]!.step).toBe(expected.step);
      }
      disposeTree(moments);
      store.dispose();
    });

    it('is the same in portable operations', () => {
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 6 }), (size, steps) => {
          const run = (): number[] => {
            const store = createParameterStore({
              p: { shape: [size], data: Float32Array.from({ length: size }, (_, i) => Math.cos(i)) },
            });
            for (let step = 0; step < steps; step += 1) {
              const g = sampleTensor([size], step);
              store.update({ p: g }, { optimizer: { lr: 0.05 }, clipNorm: 1 });
              g.dispose();
            }
            const values = toList(store.read('p'));
            store.dispose();
            return values;
          };
          expect(run()).toBeAllClose(withPortableBodies(run), { rtol: 1e-4, atol: 1e-5 });
        }),
        { seed: 8, numRuns: 15 },
      );
    });

    it('rejects settings out of range, all at once', () => {
      const store = smallStore();
      const update = (optimizer: AdamWSettings) => () => store.update({}, { optimizer });
      expect(update({ lr: -1, betas: [1, 0.9], epsilon: 0 })).toThrow(
        /lr must be at least 0, got -1; betas\[0\] must be in \[0, 1\), got 1; epsilon must be above 0, got 0/,
      );
      expect(update({ lr: 1, weightDecay: [{ pattern: '(', weightDecay: 0 }] })).toThrow(
        /regular expression/,
      );
      store.dispose();
    });
  });
}

function describeUpdates(): void {
  describe('update', () => {
    it('leaves parameters without a gradient, and their versions, alone', () => {
      const store = smallStore();
      const before = toList(store.read('b.weight'));
      const g = sampleTensor([5], 'g');
      store.update({ 'a.bias': g }, { optimizer: { lr: 0.1 } });
      expect(toList(store.read('b.weight'))).toEqual(before);
      expect([store.version('a'), store.version('b.weight')]).toEqual([1, 0]);
      g.dispose();
      store.dispose();
    });

    it('does not write or free gradients', () => {
      const store = smallStore();
      const gradients = gradientsOf(store, 1);
      const before = Object.values(gradients).map(toList);
      store.update(gradients, { optimizer: { lr: 0.1 }, clipNorm: 0.01 });
      store.update(gradients, { optimizer: { lr: 0.1 }, clipNorm: 0.01 });
      expect(Object.values(gradients).map(toList)).toEqual(before);
      disposeTree(gradients);
      store.dispose();
    });

    it('throws on, or skips, a gradient that is not finite, and changes nothing', () => {
      const store = smallStore();
      const gradients = gradientsOf(store, 1);
      const bad = tensor1d([1, Number.NaN, 0, 0, 0]);
      const all = { ...gradients, 'a.bias': bad };
      const before = store.ids().map((id) => toList(store.read(id)));
      expect(() => store.update(all, { optimizer: { lr: 0.1 } })).toThrow(/NaN or infinity in a\.bias \(/);
      const report = store.update(all, { optimizer: { lr: 0.1 }, onNonFinite: 'skip' });
      expect(report).toMatchObject({ applied: false, finite: false });
      expect(store.ids().map((id) => toList(store.read(id)))).toEqual(before);
      expect(store.version('a')).toBe(0);
      disposeTree([gradients, bad]);
      store.dispose();
    });

    it('rejects a gradient of the wrong shape or of an unknown parameter', () => {
      const store = smallStore();
      const g = sampleTensor([4], 'g');
      const update = (id: string) => () => store.update({ [id]: g }, { optimizer: { lr: 1 } });
      expect(update('a.bias')).toThrow(/gradient of a\.bias.*must be 5, got 4/);
      expect(update('c')).toThrow(/parameter.*got "c"/);
      g.dispose();
      store.dispose();
    });

    it('holds no more tensors after many updates than after the first', () => {
      const store = smallStore();
      const g = gradientsOf(store, 1);
      const step = (): void => {
        store.update(g, { optimizer: { lr: 0.01 }, clipNorm: 1 });
        for (const id of store.ids()) store.read(id);
      };
      step();
      const live = countTensors();
      for (let i = 0; i < 30; i += 1) step();
      expect(countTensors()).toBe(live);
      disposeTree(g);
      store.dispose();
    });
  });
}

function describeReads(): void {
  describe('reads and snapshots', () => {
    it('copy what they are given: writing or freeing it later changes nothing', () => {
      const data = Float32Array.of(1, 2, 3);
      const tensor = tensor1d([4, 5]);
      const store = createParameterStore({ x: { shape: [3], data }, y: { tensor } });
      data.fill(0);
      tensor.dispose();
      expect([toList(store.read('x')), toList(store.read('y'))]).toEqual([
        [1, 2, 3],
        [4, 5],
      ]);
      store.dispose();
    });

    it('that are held keep their old values while training goes on', () => {
      const store = smallStore();
      const held = cloneTensor(store.read('b.weight'));
      const snapshot = store.capture(['a'], { moments: true });
      const before = { b: toList(held), a: toList(snapshot.read('a.weight')) };
      const gradients = gradientsOf(store, 1);
      for (let step = 0; step < 3; step += 1) store.update(gradients, { optimizer: { lr: 0.1 } });
      const later = store.capture(['a'], { moments: true });
      const frozen = [later.read('a.weight'), later.moments('a.weight')!.slots['first']!].map(toList);
      store.update(gradients, { optimizer: { lr: 0.1 } });
      expect(toList(held)).toEqual(before.b);
      expect(toList(snapshot.read('a.weight'))).toEqual(before.a);
      expect(snapshot.moments('a.weight')).toBeUndefined();
      expect([later.read('a.weight'), later.moments('a.weight')!.slots['first']!].map(toList)).toEqual(
        frozen,
      );
      expect(toList(store.read('a.weight'))).not.toEqual(frozen[0]);
      expect(snapshot.units).toEqual([{ unit: 'a', version: 0, ids: ['a.weight', 'a.bias'] }]);
      expect(later.units[0]!.version).toBe(3);
      snapshot.dispose();
      expect(() => snapshot.read('a.weight')).toThrow(/not be disposed/);
      expect(() => later.read('b.weight')).toThrow(/must hold/);
      disposeTree([held, gradients]);
      later.dispose();
      store.dispose();
    });

    it('assign replaces a value and raises the unit’s version', () => {
      const store = smallStore();
      const next = sampleTensor([5], 'next');
      store.assign('a.bias', next);
      expect(toList(store.read('a.bias'))).toEqual(toList(next));
      expect(store.version('a')).toBe(1);
      expect(() => store.assign('a.weight', next)).toThrow(/rank/);
      next.dispose();
      store.dispose();
    });

    it('names units and parameters, and rejects data of the wrong length', () => {
      const store = smallStore();
      expect(store.ids()).toEqual(['a.weight', 'a.bias', 'b.weight']);
      expect(store.units()).toEqual(['a', 'b.weight']);
      expect(store.idsOf('a')).toEqual(['a.weight', 'a.bias']);
      expect(store.unitOf('b.weight')).toBe('b.weight');
      store.dispose();
      expect(() => store.read('a.bias')).toThrow(/disposed/);
      const short = { x: { shape: [2, 3], data: new Float32Array(5) } };
      expect(() => createParameterStore(short)).toThrow(/6 values for \[2, 3\], got 5/);
    });
  });
}

function save(snapshot: Snapshot, state: MemoryState): void {
  const writer = state.writer();
  runSync(writer.begin());
  runSync(exportParameters(snapshot, writer));
  runSync(writer.commit());
}

function describeState(): void {
  describe('state', () => {
    it('goes out and in through core’s ports, and training continues as if nothing had happened', () => {
      const store = smallStore();
      const gradients = gradientsOf(store, 1);
      const optimizer = { lr: 0.1 };
      store.update(gradients, { optimizer });
      const state = createMemoryState();
      const snapshot = store.capture(undefined, { moments: true });
      save(snapshot, state);
      snapshot.dispose();
      store.update(gradients, { optimizer });
      const expected = store.ids().map((id) => toList(store.read(id)));

      const restored = smallStore();
      runSync(importParameters(restored, state.reader()));
      expect(restored.version('a')).toBe(1);
      restored.update(gradients, { optimizer });
      expect(restored.ids().map((id) => toList(restored.read(id)))).toEqual(expected);
      disposeTree(gradients);
      store.dispose();
      restored.dispose();
    });

    it('of another shape is refused', () => {
      const store = smallStore();
      const state = createMemoryState();
      const snapshot = store.capture();
      save(snapshot, state);
      snapshot.dispose();
      store.dispose();
      const other = createParameterStore({
        'b.weight': { shape: [7, 10], data: new Float32Array(70) },
      });
      let caught: unknown;
      try {
        runSync(importParameters(other, state.reader()));
      } catch (error) {
        caught = error;
      }
      expect(isMoebiusError(caught, 'checkpoint')).toBe(true);
      expect(String(caught)).toMatch(/F32 \[7, 10\], got F32 \[7, 11\]/);
      other.dispose();
    });
  });
}
