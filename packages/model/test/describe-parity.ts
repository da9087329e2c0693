/**
 * @file Equal to Hugging Face transformers: logits, losses, every gradient, greedy tokens. The fixtures are made by
 * `__fixtures__/make_fixture.py`; tolerances are those of the package's contract. Run on each engine in its own file,
 * because a process has one engine.
 */
import { runSync } from '@moebius/core';
import { loadBalanceLoss } from '@moebius/routing';
import { countTensors, disposeTree, readHostSync } from '@moebius/tensor';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { countParameters, type DecoderModel, describeParameters, generate, loadModel } from '../src/index.ts';
import { fixtureNames, readFixture, tensorOf } from './read-fixture.ts';

/** max |a - b| / max |b|: relative to the tensor, as single entries may be 0. */
function relativeError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  let largest = 0;
  for (let at = 0; at < expected.length; at += 1) {
    worst = Math.max(worst, Math.abs((got[at] ?? NaN) - (expected[at] ?? NaN)));
    largest = Math.max(largest, Math.abs(expected[at] ?? NaN));
  }
  return worst / Math.max(largest, 1e-8);
}

/** `[rows, columns]` turned. */
function transposed(values: ArrayLike<number>, [rows = 0, columns = 0]: readonly number[]): Float32Array {
  return Float32Array.from(
    { length: rows * columns },
    (_, at) => values[(at % rows) * columns + Math.floor(at / rows)] ?? NaN,
  );
}

/** The suite, for the engine that is running. */
export function describeParity(engineName: string): void {
  describe.each(fixtureNames)(`%s on ${engineName}`, (name) => {
    const fixture = readFixture(name);
    const ids = tensorOf(fixture.expected, 'ids').values as Int32Array;
    const targets = tensorOf(fixture.expected, 'targets').values as Int32Array;
    const batch = 2;
    let model: DecoderModel;
    let before = 0;

    beforeEach(async () => {
      before = countTensors();
      model = await loadModel(fixture.folder);
    });

    afterEach(() => {
      model.dispose();
      expect(countTensors()).toBe(before);
    });

    it('has as many parameters as torch counts', () => {
      expect(countParameters(model.config)).toBe(fixture.reference.parameters);
      const built = describeParameters(model.config).map(({ id }) => model.parameters.read(id).size);
      expect(built.reduce((sum, size) => sum + size, 0)).toBe(fixture.reference.parameters);
    });

    it('gives the logits of transformers within 1e-4', () => {
      const { hidden } = runSync(model.forward({ ids, batch }));
      const logits = model.logits(hidden);
      const expected = tensorOf(fixture.expected, 'logits');
      expect(logits.size).toBe(expected.values.length);
      const got = readHostSync(logits);
      const worst = Math.max(...expected.values.map((value, at) => Math.abs((got[at] ?? NaN) - value)));
      expect(worst).toBeLessThanOrEqual(1e-4);
      disposeTree([hidden, logits]);
    });

    it('gives the router logits of every sparse layer', () => {
      const seen: { [layer: number]: Float32Array } = {};
      const observe = (layer: number, { logits }: { logits: Parameters<typeof readHostSync>[0] }): void => {
        seen[layer] = Float32Array.from(readHostSync(logits));
      };
      disposeTree(runSync(model.forward({ ids, batch }, { observe })));
      const expected = Object.keys(fixture.expected).filter((key) => key.startsWith('router_logits.'));
      expect(Object.keys(seen)).toHaveLength(expected.length);
      for (const key of expected) {
        const got = seen[Number(key.split('.')[1])] ?? [];
        expect(relativeError(got, tensorOf(fixture.expected, key).values), key).toBeLessThanOrEqual(1e-4);
      }
    });

    it('gives the loss, the load-balance loss and the gradient of every parameter of PyTorch', () => {
      const balance = [
        { loss: loadBalanceLoss({ pooling: 'pooled' }), coefficient: model.config.router_aux_loss_coef },
      ];
      const out = runSync(model.loss({ ids, targets, batch }, { balance }));
      expect(out.total).toBeCloseTo(fixture.reference.loss, 5);
      expect(out.crossEntropy).toBeCloseTo(fixture.reference.cross_entropy, 5);
      expect(out.aux['load-balance']?.value).toBeCloseTo(fixture.reference.router_aux_loss, 5);
      expect(out.count).toBe(targets.filter((target) => target >= 0).length);
      if (out.saved === null) throw new Error('nothing saved');
      const gradients = runSync(model.backward(out.saved));
      const list = describeParameters(model.config);
      expect(Object.keys(gradients).toSorted()).toEqual(list.map(({ id }) => id).toSorted());
      for (const { id, shape, transposed: turned } of list) {
        const gradient = gradients[id];
        if (gradient === undefined) throw new Error(`no gradient for ${id}`);
        expect(gradient.shape).toEqual(shape);
        const file = tensorOf(fixture.expected, `grad.${id}`);
        const expected = turned ? transposed(file.values, file.shape) : file.values;
        expect(relativeError(readHostSync(gradient), expected), id).toBeLessThanOrEqual(1e-3);
      }
      disposeTree(gradients);
    });

    it('continues a prompt with the tokens of transformers', async () => {
      const tokens: number[] = [];
      for await (const { token } of generate(model, fixture.reference.greedy_prompt, { maxNewTokens: 20 })) {
        tokens.push(token);
      }
      expect(tokens).toEqual(fixture.reference.greedy_tokens);
    });
  });
}
