/** @file Optimizers as data: PyTorch's numbers, treatments, state. For one engine. */
import { readFileSync } from 'node:fs';

import { createMemoryState, runSync } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import {
  createParameterStore,
  disposeTree,
  importParameters,
  matMul,
  optimizers,
  orthogonalize,
  orthogonalizeFlops,
  readHostSync,
  tensor,
  tidy,
} from '../../src/index.ts';
import type { OptimizerSettings, Tensor3D, Treatments } from '../../src/index.ts';
import { sampleTensor, toList } from '../../src/testing/index.ts';
import { withPortableBodies } from '../operations/portable-bodies.ts';
import { gradientsOf, kinds, messageOf, mixedStore, save, step, valuesOf } from './small-stores.ts';

interface TorchFixture {
  readonly shapes: { readonly [id: string]: number[] };
  readonly start: { readonly [id: string]: number[] };
  readonly gradients: readonly { readonly [id: string]: number[] }[];
  readonly cases: { readonly [name: string]: { readonly [id: string]: number[] } };
}

/** Made by `make-torch-optimizers.py`. */
const torch = JSON.parse(
  readFileSync(new URL('__fixtures__/torch-optimizers.json', import.meta.url), 'utf8'),
) as TorchFixture;

const torchSettings: { readonly [name: string]: OptimizerSettings } = {
  adamw: { lr: 0.1, betas: [0.9, 0.95], weightDecay: 0.1 },
  sgd: { kind: 'sgd', lr: 0.1 },
  'sgd-momentum': { kind: 'sgd', lr: 0.1, momentum: 0.9 },
  'sgd-dampening': { kind: 'sgd', lr: 0.1, momentum: 0.9, dampening: 0.5 },
  'sgd-nesterov-coupled': { kind: 'sgd', lr: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.1 },
  'sgd-decoupled': { kind: 'sgd', lr: 0.1, momentum: 0.9, decay: 'decoupled', weightDecay: 0.1 },
  muon: { kind: 'muon', lr: 0.05 },
  'muon-original': {
    kind: 'muon',
    lr: 0.02,
    scale: 'original',
    nesterov: false,
    momentum: 0.8,
    steps: 4,
  },
};

/** Tests of one running engine. */
export function optimizersSuite(): void {
  describeNumbers();
  describeTreatments();
  describeStateOfRules();
}

function describeNumbers(): void {
  describe('optimizers', () => {
    it.each(Object.entries(torchSettings))(
      '%s gives the numbers of PyTorch over six steps',
      (name, optimizer) => {
        const inits = Object.entries(torch.shapes).map(([id, shape]) => [
          id,
          { shape, data: Float32Array.from(torch.start[id]!) },
        ]);
        const store = createParameterStore(Object.fromEntries(inits));
        for (const values of torch.gradients) {
          const gradients = Object.fromEntries(
            Object.entries(values).map(([id, data]) => [id, tensor(data, torch.shapes[id])]),
          );
          store.update(gradients, { optimizer });
          disposeTree(gradients);
        }
        // Newton-Schulz amplifies the rounding of its products; plain sums agree to the last digits.
        const tolerance = name.startsWith('muon') ? 2e-5 : 1e-6;
        for (const [id, expected] of Object.entries(torch.cases[name]!)) {
          expect(store.read(id)).toBeAllClose(expected, { rtol: tolerance, atol: tolerance });
        }
        store.dispose();
      },
    );

    it.each(kinds)('give the same in portable operations: %j', (optimizer) => {
      const run = (): { [id: string]: number[] } => {
        const store = mixedStore();
        for (let seed = 1; seed <= 3; seed += 1) step(store, seed, { optimizer, clipNorm: 1 });
        const values = valuesOf(store);
        store.dispose();
        return values;
      };
      const [own, portable] = [run(), withPortableBodies(run)];
      for (const [id, values] of Object.entries(own)) {
        expect(values).toBeAllClose(portable[id]!, { rtol: 1e-4, atol: 1e-5 });
      }
    });

    it('orthogonalizes: singular values near 1, whatever the shape', () => {
      for (const [rows, columns] of [
        [3, 8],
        [8, 3],
        [5, 5],
        [1, 6],
      ] as const) {
        const stack = sampleTensor([2, rows, columns], `stack ${rows}`) as Tensor3D;
        const gram = tidy(() => {
          const u = orthogonalize(stack, 5);
          return rows <= columns ? matMul(u, u, false, true) : matMul(u, u, true, false);
        });
        const size = Math.min(rows, columns);
        const values = readHostSync(gram);
        // The trace is the sum of squared singular values, each of them in about [0.68, 1.13] squared.
        for (const matrix of [0, 1]) {
          let trace = 0;
          for (let i = 0; i < size; i += 1) trace += values[(matrix * size + i) * size + i]!;
          expect(trace / size).toBeGreaterThan(0.4);
          expect(trace / size).toBeLessThan(1.4);
        }
        disposeTree([stack, gram]);
      }
      expect(orthogonalizeFlops(8, 3, 5)).toBe(5 * (2 * 3 * 8 * 3 + 2 * 3 * 3 * 8 + 2 * 3 * 3 * 3));
    });

    it('of no name, or with numbers out of range, are refused: all faults at once', () => {
      const store = mixedStore();
      const update = (optimizer: unknown) => () =>
        store.update({}, { optimizer: optimizer as OptimizerSettings });
      expect(messageOf(update({ kind: 'mion', lr: 1 }))).toBe(
        'registry: optimizer: must be one of adamw, sgd, muon, got "mion" (did you mean "muon"?)',
      );
      expect(
        messageOf(update({ kind: 'sgd', lr: -1, momentum: 1, nesterov: true, dampening: 2, decay: 'l2' })),
      ).toBe(
        'configuration: sgd: lr must be at least 0, got -1; momentum must be in [0, 1), got 1; dampening must be in [0, 1], got 2; ' +
          'nesterov must have momentum and no dampening, got momentum 1 and dampening 2; decay must be coupled or decoupled, got "l2"',
      );
      expect(
        messageOf(
          update({
            kind: 'muon',
            lr: 1,
            momentum: -1,
            steps: 0,
            scale: 'big',
            adamWFor: ['('],
            adamW: { epsilon: 0 },
          }),
        ),
      ).toBe(
        'configuration: muon: momentum must be in [0, 1), got -1; steps must be an integer in [1, 99], got 0; ' +
          'scale must be match-rms or original, got "big"; adamWFor must be a regular expression, got (; adamW.epsilon must be above 0, got 0',
      );
      expect(optimizers.names()).toEqual(['adamw', 'sgd', 'muon']);
      store.dispose();
    });
  });
}

function describeTreatments(): void {
  describe('treatments', () => {
    it.each(kinds)('give a parameter its own rate and decay: %j', (optimizer) => {
      const [store, slow] = [mixedStore(), mixedStore()];
      const id = 'layers.1.up.weight';
      for (let seed = 1; seed <= 3; seed += 1) {
        step(store, seed, { optimizer, treatments: { [id]: { learningRateScale: 0.1, weightDecay: 0.3 } } });
        step(slow, seed, { optimizer: { ...optimizer, lr: 0.005, weightDecay: 0.3 } });
      }
      expect(toList(store.read(id))).toBeAllClose(toList(slow.read(id)), { rtol: 1e-6, atol: 1e-7 });
      const other = 'layers.0.up.weight';
      expect(toList(store.read(other))).not.toEqual(toList(slow.read(other)));
      store.dispose();
      slow.dispose();
    });

    it.each(kinds)('freeze: same bytes, no state, no version, no part in the norm: %j', (optimizer) => {
      const store = mixedStore();
      const frozen = ['layers.0.up.weight', 'layers.1.mlp.gate.weight', 'layers.1.down.weight'];
      const treatments = Object.fromEntries(frozen.map((id) => [id, { frozen: true }]));
      const before = valuesOf(store);
      const gradients = gradientsOf(store, 1);
      const free = store.ids().filter((id) => !frozen.includes(id));
      const norm = Math.sqrt(
        free.flatMap((id) => toList(gradients[id]!)).reduce((total, x) => total + x * x, 0),
      );
      // Not even a gradient that is not finite matters where nothing is updated.
      gradients['layers.1.mlp.gate.weight']!.dispose();
      gradients['layers.1.mlp.gate.weight'] = tensor(Array(12).fill(Number.NaN), [3, 4]);
      const report = store.update(gradients, { optimizer, treatments, clipNorm: 1 });
      expect(report.norm).toBeCloseTo(norm, 4);
      for (const id of frozen) expect(toList(store.read(id))).toEqual(before[id]);
      for (const id of free) expect(toList(store.read(id))).not.toEqual(before[id]);
      const state = store.optimizerState();
      expect(Object.keys(state)).toEqual(free);
      expect([store.version('a'), store.version('b')]).toEqual([1, 0]);
      disposeTree([gradients, state]);
      store.dispose();
    });

    it('out of range, or of an unknown parameter, are refused before anything changes', () => {
      const store = mixedStore();
      const before = valuesOf(store);
      const gradients = gradientsOf(store, 1);
      const update = (treatments: Treatments) => () =>
        store.update(gradients, { optimizer: { lr: 1 }, treatments });
      expect(messageOf(update({ 'layers.9.up.weight': {} }))).toBe(
        'registry: parameter: must be in the store, got "layers.9.up.weight" (unknown, or the store was disposed)',
      );
      expect(messageOf(update({ 'layers.1.up.weight': { learningRateScale: -1 } }))).toBe(
        'configuration: treatment of layers.1.up.weight: learningRateScale must be at least 0, got -1',
      );
      disposeTree(gradients);
      expect(valuesOf(store)).toEqual(before);
      store.dispose();
    });
  });
}

function describeStateOfRules(): void {
  describe('optimizer state', () => {
    it.each(kinds)('goes out and in, and training goes on with the same bytes: %j', (optimizer) => {
      const [whole, stopped, resumed] = [mixedStore(), mixedStore(), mixedStore()];
      for (let seed = 1; seed <= 5; seed += 1) step(whole, seed, { optimizer, clipNorm: 1 });
      for (let seed = 1; seed <= 2; seed += 1) step(stopped, seed, { optimizer, clipNorm: 1 });
      const saved = save(stopped);
      // Whatever the store went through before does not matter.
      step(resumed, 9, { optimizer: { kind: 'sgd', lr: 1, momentum: 0.5 } });
      runSync(importParameters(resumed, saved.reader()));
      for (let seed = 3; seed <= 5; seed += 1) step(resumed, seed, { optimizer, clipNorm: 1 });
      expect(valuesOf(resumed)).toEqual(valuesOf(whole));
      const [left, right] = [save(resumed), save(whole)];
      for (const unit of whole.units()) {
        expect(runSync(left.reader().read(unit))).toEqual(runSync(right.reader().read(unit)));
      }
      for (const store of [whole, stopped, resumed]) store.dispose();
    });

    it('of another optimizer is refused, until it is forgotten', () => {
      const store = mixedStore();
      step(store, 1, { optimizer: { lr: 0.1 } });
      step(store, 2, { optimizer: { lr: 0.1 } });
      const before = valuesOf(store);
      const gradients = gradientsOf(store, 3);
      const change = (): unknown => store.update(gradients, { optimizer: { kind: 'sgd', lr: 0.1 } });
      expect(messageOf(change)).toBe(
        'configuration: optimizer: must be the one whose state the parameters have, got "sgd" for layers.0.up.weight, which "adamw" has ' +
          'updated 2 times (go on with that one, or forget its state with clearOptimizerState)',
      );
      expect(valuesOf(store)).toEqual(before);
      store.clearOptimizerState();
      change();
      expect(valuesOf(store)).not.toEqual(before);
      disposeTree(gradients);
      store.dispose();
    });

    it('that is torn is refused with what was found', () => {
      const store = mixedStore();
      step(store, 1, { optimizer: { lr: 0.1 } });
      const unit = runSync(save(store).reader().read('b'));
      const id = 'layers.1.down.weight';
      const load = (tensors: typeof unit.tensors) => () => {
        const state = createMemoryState();
        const writer = state.writer();
        runSync(writer.begin());
        runSync(writer.put({ ...unit, tensors }));
        runSync(writer.commit());
        runSync(importParameters(store, state.reader(), ['b']));
      };
      const { [`${id}#adamw`]: _, ...uncounted } = unit.tensors;
      expect(messageOf(load(uncounted))).toBe(
        `checkpoint: unit "b", optimizer state of "${id}": must be of one rule with a step count of at least 1, got adamw.first, adamw.second at step 0`,
      );
      const foreign = { ...unit.tensors, [`${id}#sgd.momentum`]: unit.tensors[`${id}#adamw.first`]! };
      expect(messageOf(load(foreign))).toMatch(
        /must be of one rule .*adamw\.first, .*sgd\.momentum at step 1/,
      );
      store.dispose();
    });
  });
}
