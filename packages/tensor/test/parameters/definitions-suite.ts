/** @file Optimizers of one's own, for one engine. */
import { describe, expect, it } from 'vitest';

import { defineOptimizer, disposeTree, mul, sub } from '../../src/index.ts';
import type { OptimizerSettings, UpdateRule } from '../../src/index.ts';
import { toList } from '../../src/testing/index.ts';
import { gradientsOf, messageOf, mixedStore, valuesOf } from './small-stores.ts';

/** Tests of one running engine. */
export function definitionsSuite(): void {
  const rule = (update: UpdateRule['update'], slots: string[] = []): OptimizerSettings => ({
    kind: defineOptimizer({
      name: 'mine',
      weightDecay: 0,
      check: (settings: { lr: number; settings?: { scale?: number } }) =>
        (settings.settings?.scale ?? 1) > 0 ? [] : ['scale must be above 0'],
      rules: () => {
        const made: UpdateRule = { name: 'mine', slots, update };
        return () => made;
      },
    }),
    lr: 0.5,
  });

  describe('a definition of one’s own', () => {
    it('is one object: it gets parameters of one shape together, scaled gradients, and its state back', () => {
      const store = mixedStore();
      const before = valuesOf(store);
      const groups: string[][] = [];
      const optimizer = rule(
        (parts, at) => {
          groups.push(parts.map(({ id }) => id));
          return parts.map(({ value, gradient, state, lr }) => {
            expect(toList(state['last']!).every((x) => x === 0)).toBe(at === 1);
            return { value: sub(value, mul(gradient, lr)), state: { last: gradient } };
          });
        },
        ['last'],
      );
      const gradients = gradientsOf(store, 1);
      store.update(gradients, { optimizer, gradientScale: 0.5 });
      store.update(gradients, { optimizer, gradientScale: 0.5 });
      expect(groups.slice(0, 4)).toEqual([
        ['layers.0.up.weight', 'layers.1.up.weight'],
        ['layers.1.norm.weight'],
        ['layers.1.mlp.gate.weight'],
        ['layers.1.down.weight'],
      ]);
      for (const id of store.ids()) {
        const g = toList(gradients[id]!);
        expect(store.read(id)).toBeAllClose(before[id]!.map((x, i) => x - 0.5 * g[i]!));
      }
      disposeTree(gradients);
      store.dispose();
    });

    it('that is wrong changes nothing and is named', () => {
      const store = mixedStore();
      const before = valuesOf(store);
      const gradients = gradientsOf(store, 1);
      const update = (optimizer: OptimizerSettings) => () => store.update(gradients, { optimizer });
      expect(messageOf(update(rule(() => [])))).toBe(
        'plugin: optimizer rule "mine": must give a result for each of 2 parameters, got 0',
      );
      const stateless = rule((parts) => parts.map(({ value }) => ({ value, state: {} })), ['last']);
      expect(messageOf(update(stateless))).toBe(
        'plugin: optimizer rule "mine": must give its slot "last" for layers.0.up.weight, got none',
      );
      const flat = rule((parts) => parts.map(({ value }) => ({ value: value.flatten(), state: {} })));
      expect(messageOf(update(flat))).toMatch(
        /shape: value of layers\.0\.up\.weight from optimizer rule "mine": must have rank 2/,
      );
      expect(messageOf(update({ ...rule(() => []), settings: { scale: 0 } } as OptimizerSettings))).toBe(
        'configuration: mine: scale must be above 0',
      );
      expect(valuesOf(store)).toEqual(before);
      disposeTree(gradients);
      store.dispose();
    });
  });
}
