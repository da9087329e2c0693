import { createRng, isMoebiusError, runAsync, runSync } from '@moebius/core';
import { createLocalExecutor, loadBalanceLoss, zLoss } from '@moebius/routing';
import {
  add,
  countTensors,
  createKvCache,
  disposeTree,
  mul,
  readHostSync,
  tensor,
  type Tensor,
  type Tensor2D,
} from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import {
  type Block,
  countParameters,
  createDecoderBlock,
  createModel,
  type DecoderModel,
  describeParameters,
  initialiseParameters,
  type LossOutput,
} from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig, tinyIds, tinyModel } from './tiny-model.ts';
import { checkLeaks } from './leak-check.ts';

await prepareEngine();

const ids = tinyIds(10);
const targets = Int32Array.of(...tinyIds(9, 19, 2), -1);
const balance = [
  { loss: loadBalanceLoss({ pooling: 'pooled' }), coefficient: 0.3 },
  { loss: zLoss(), coefficient: 0.2 },
];
const settings = { balance, zLossCoefficient: 0.05 };

checkLeaks();

function hidden(model: DecoderModel, input: { ids: Int32Array; batch?: number }): Float32Array {
  const out = runSync(model.forward(input));
  const values = Float32Array.from(readHostSync(out.hidden));
  disposeTree(out);
  return values;
}

function lossOf(model: DecoderModel): number {
  return runSync(model.loss({ ids, targets, batch: 2 }, { ...settings, training: false })).total;
}

function valuesOf(values: Tensor): Float32Array {
  return readHostSync(values) as Float32Array;
}

function savedOf(out: LossOutput): NonNullable<LossOutput['saved']> {
  if (out.saved === null) throw new Error('nothing saved');
  return out.saved;
}

function worstDifference(left: ArrayLike<number>, right: ArrayLike<number>): number {
  let worst = 0;
  for (let at = 0; at < left.length; at += 1) {
    worst = Math.max(worst, Math.abs((left[at] ?? NaN) - (right[at] ?? NaN)));
  }
  return worst;
}

function write(model: DecoderModel, id: string, values: Float32Array): void {
  const value = tensor(values, [...model.parameters.shape(id)]);
  model.parameters.assign(id, value);
  value.dispose();
}

describe('a decoder', () => {
  it('has as many parameters as the closed formula says, in every kind of layer', () => {
    for (const fields of [
      {},
      { tie_word_embeddings: true },
      { num_experts: 0 },
      { decoder_sparse_step: 2, mlp_only_layers: [] },
    ]) {
      const model = tinyModel(fields);
      const sizes = describeParameters(model.config).map(({ id }) => model.parameters.read(id).size);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(countParameters(model.config));
      model.dispose();
    }
  });

  it('gives bit-equal losses and gradients twice', () => {
    const run = (): number[] => {
      const model = tinyModel();
      const out = runSync(model.loss({ ids, targets, batch: 2 }, settings));
      const gradients = runSync(model.backward(savedOf(out)));
      const values = [
        out.total,
        ...Object.keys(gradients)
          .toSorted()
          .flatMap((id) => [...readHostSync(gradients[id] as Tensor)]),
      ];
      disposeTree(gradients);
      model.dispose();
      return values;
    };
    expect(run()).toEqual(run());
  });

  it('does not let a sequence see its neighbours in the batch', () => {
    const model = tinyModel();
    const both = hidden(model, { ids, batch: 2 });
    const first = hidden(model, { ids: ids.slice(0, 5) });
    const second = hidden(model, { ids: ids.slice(5) });
    expect(worstDifference(both, [...first, ...second])).toBeLessThan(1e-5);
    model.dispose();
  });

  it('does not let a token see its future', () => {
    const model = tinyModel();
    const changed = ids.slice();
    changed[9] = ((changed[9] ?? 0) + 1) % 19;
    const whole = hidden(model, { ids });
    const other = hidden(model, { ids: changed });
    expect(worstDifference(whole.subarray(0, 72), other.subarray(0, 72))).toBeLessThan(1e-6);
    expect(worstDifference(whole.subarray(72), other.subarray(72))).toBeGreaterThan(1e-3);
    model.dispose();
  });

  it('gives with a cache, in any split, what it gives without', () => {
    const model = tinyModel();
    const whole = hidden(model, { ids });
    for (const parts of [[10], [5, 5], [1, 2, 3, 4], Array.from({ length: 10 }, () => 1)]) {
      const cache = createKvCache({ layers: 3, batch: 1, positions: 16, kvHeads: 2, headSize: 4 });
      const rows: number[] = [];
      let at = 0;
      for (const part of parts) {
        const out = runSync(model.forward({ ids: ids.slice(at, at + part) }, { cache }));
        rows.push(...readHostSync(out.hidden));
        out.hidden.dispose();
        at += part;
      }
      cache.dispose();
      expect(worstDifference(whole, rows)).toBeLessThan(1e-5);
    }
    model.dispose();
  });

  it('runs the same under the awaiting driver and the general executor', async () => {
    const config = tinyConfig();
    const general = createModel({
      config,
      parameters: initialiseParameters(config, createRng(7)),
      executor: createLocalExecutor({ path: 'general' }),
    });
    const model = tinyModel();
    const a = await runAsync(general.loss({ ids, targets, batch: 2 }, settings));
    const b = runSync(model.loss({ ids, targets, batch: 2 }, settings));
    expect(a.total).toBeCloseTo(b.total, 5);
    disposeTree([a.saved, b.saved]);
    general.dispose();
    model.dispose();
  });
});

describe('a loss', () => {
  it('is the cross-entropy plus the weighted auxiliary losses', () => {
    const model = tinyModel();
    const out = runSync(
      model.loss({ ids, targets, batch: 2 }, { ...settings, training: false, perToken: true }),
    );
    expect(Object.keys(out.aux).toSorted()).toEqual(['load-balance', 'logit-z-loss', 'z-loss']);
    const aux = Object.values(out.aux).reduce((sum, { value, coefficient }) => sum + value * coefficient, 0);
    expect(out.total).toBeCloseTo(out.crossEntropy + aux, 6);
    expect(out.routing.map(({ layer }) => layer)).toEqual([0, 2]);
    expect(out.routing[0]?.stats.pairs).toBe(20);
    const rows = valuesOf(out.lossPerToken as Tensor);
    expect(rows.reduce((sum, row) => sum + row, 0) / out.count).toBeCloseTo(out.crossEntropy, 5);
    expect(out.saved).toBeNull();
    disposeTree(out.lossPerToken);
    model.dispose();
  });

  it('adds the load-balance loss by default exactly when the configuration asks for it', () => {
    for (const output_router_logits of [true, false]) {
      const model = tinyModel({ output_router_logits, router_aux_loss_coef: 0.5 });
      const { aux } = runSync(model.loss({ ids, targets, batch: 2 }, { training: false }));
      expect(Object.keys(aux)).toEqual(output_router_logits ? ['load-balance'] : []);
      model.dispose();
    }
  });

  it('has gradients that equal central differences, for every parameter', () => {
    for (const fields of [{ norm_topk_prob: true }, { tie_word_embeddings: true, num_experts_per_tok: 3 }]) {
      const model = tinyModel(fields);
      const out = runSync(model.loss({ ids, targets, batch: 2 }, settings));
      const gradients = runSync(model.backward(savedOf(out)));
      const rng = createRng(11);
      for (const { id } of describeParameters(model.config)) {
        const direction = new Float32Array(model.parameters.read(id).size);
        rng.fillNormal(direction);
        const expected = directionalDifference(model, id, direction);
        const gradient = valuesOf(gradients[id] as Tensor);
        const got = gradient.reduce((sum, value, at) => sum + value * (direction[at] ?? 0), 0);
        expect(Math.abs(got - expected), `${id}: ${got} against ${expected}`).toBeLessThan(
          2e-3 + 0.01 * Math.abs(expected),
        );
      }
      disposeTree(gradients);
      model.dispose();
    }
  });

  it('scales the gradients of the two kinds of loss apart', () => {
    const model = tinyModel();
    const gradientOf = (scale: number, auxScale: number): Float32Array => {
      const out = runSync(model.loss({ ids, targets, batch: 2 }, { balance }));
      const gradients = runSync(model.backward(savedOf(out), { scale, auxScale }));
      const values = Float32Array.from(readHostSync(gradients['model.layers.0.mlp.gate.weight'] as Tensor));
      disposeTree(gradients);
      return values;
    };
    const main = gradientOf(1, 0);
    const aux = gradientOf(0, 1);
    const mixed = gradientOf(0.5, 2);
    const expected = main.map((value, at) => 0.5 * value + 2 * (aux[at] ?? 0));
    expect(worstDifference(mixed, expected)).toBeLessThan(1e-5);
    expect(Math.max(...aux.map(Math.abs))).toBeGreaterThan(1e-4);
    model.dispose();
  });

  it('counts only the targets that are not -1', () => {
    const model = tinyModel();
    const none = runSync(model.loss({ ids, targets: new Int32Array(10).fill(-1) }, { training: false }));
    expect([none.count, none.crossEntropy]).toEqual([0, 0]);
    model.dispose();
  });

  it('frees everything when its backward is not wanted', () => {
    const model = tinyModel();
    const out = runSync(model.loss({ ids, targets, batch: 2 }, settings));
    expect(countTensors(out.saved)).toBeGreaterThan(40);
    disposeTree(out.saved);
    model.dispose();
  });
});

/** (loss(w + h d) - loss(w - h d)) / 2h. */
function directionalDifference(model: DecoderModel, id: string, direction: Float32Array): number {
  const step = 2e-3;
  const original = Float32Array.from(readHostSync(model.parameters.read(id)));
  const at = (sign: number): number => {
    write(
      model,
      id,
      original.map((value, i) => value + sign * step * (direction[i] ?? 0)),
    );
    return lossOf(model);
  };
  const difference = (at(1) - at(-1)) / (2 * step);
  write(model, id, original);
  return difference;
}

describe('taps', () => {
  /** Layer 0 offers its input; layer 2 adds half of it to its own input. */
  const createBlock: NonNullable<Parameters<typeof createModel>[0]['createBlock']> = (context) => {
    const inner = createDecoderBlock(context);
    if (context.layer === 0) return offering(inner);
    return context.layer === 2 ? using(inner) : inner;
  };

  it('carry a hidden state to a later block and its gradient back', () => {
    const config = tinyConfig();
    const model = createModel({
      config,
      parameters: initialiseParameters(config, createRng(7)),
      createBlock,
    });
    const plain = tinyModel();
    expect(Math.abs(lossOf(model) - lossOf(plain))).toBeGreaterThan(1e-3);
    const out = runSync(model.loss({ ids, targets, batch: 2 }, settings));
    const gradients = runSync(model.backward(savedOf(out)));
    const id = 'model.embed_tokens.weight';
    const direction = new Float32Array(model.parameters.read(id).size);
    createRng(5).fillNormal(direction);
    const got = valuesOf(gradients[id] as Tensor).reduce(
      (sum, value, at) => sum + value * (direction[at] ?? 0),
      0,
    );
    const expected = directionalDifference(model, id, direction);
    expect(Math.abs(got - expected)).toBeLessThan(2e-3 + 0.01 * Math.abs(expected));
    disposeTree(gradients);
    model.dispose();
    plain.dispose();
  });
});

function offering(inner: Block): Block {
  return {
    *forward(input, pass) {
      const out = yield* inner.forward(input, pass);
      return { ...out, taps: { early: mul<Tensor2D>(input.x, 1) } };
    },
    *takeBackward(saved, { dy, dtaps }, pass) {
      const out = yield* inner.takeBackward(saved, { dy, dtaps: {} }, pass);
      const { early } = dtaps;
      if (early === undefined) return out;
      const dx = add<Tensor2D>(out.dx, early);
      out.dx.dispose();
      return { ...out, dx };
    },
  };
}

function using(inner: Block): Block {
  return {
    *forward({ x, taps }, pass) {
      const half = mul<Tensor2D>(taps['early'] as Tensor2D, 0.5);
      const mixed = add<Tensor2D>(x, half);
      half.dispose();
      try {
        return yield* inner.forward({ x: mixed, taps: {} }, pass);
      } finally {
        mixed.dispose();
      }
    },
    *takeBackward(saved, dy, pass) {
      const out = yield* inner.takeBackward(saved, dy, pass);
      return { ...out, dtaps: { early: mul<Tensor2D>(out.dx, 0.5) } };
    },
  };
}

describe('errors', () => {
  const failing = (run: (model: DecoderModel) => unknown): unknown => {
    const model = tinyModel();
    try {
      run(model);
    } catch (error) {
      return error;
    } finally {
      model.dispose();
    }
    return null;
  };

  it('name ids outside the vocabulary', () => {
    const error = failing((model) => runSync(model.forward({ ids: Int32Array.of(1, 19) })));
    expect(isMoebiusError(error, 'data')).toBe(true);
    expect(String(error)).toContain('ids[1]: must be in [0, 19), got 19');
  });

  it('name sequences that do not split or are too long', () => {
    expect(String(failing((model) => runSync(model.forward({ ids, batch: 3 }))))).toContain(
      'each of 3 sequences, got 10',
    );
    expect(String(failing((model) => runSync(model.forward({ ids: new Int32Array(65) }))))).toContain(
      'max_position_embeddings 64 tokens, got 65',
    );
  });

  it('name the layer of a NaN and free what was made before it', () => {
    const error = failing((model) => {
      const id = 'model.layers.1.mlp.up_proj.weight';
      write(model, id, new Float32Array(80).fill(NaN));
      runSync(model.loss({ ids, targets, batch: 2 }, settings));
    });
    expect(isMoebiusError(error, 'numerics')).toBe(true);
    expect(String(error)).toContain('layers[2] gate logits of token 0');
  });

  it('refuse a cache while training', () => {
    const cache = createKvCache({ layers: 3, batch: 1, positions: 16, kvHeads: 2, headSize: 4 });
    expect(String(failing((model) => runSync(model.forward({ ids }, { training: true, cache }))))).toContain(
      'got a cache',
    );
    cache.dispose();
  });
});
