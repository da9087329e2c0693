/** Routers and kinds of experts by value in a model: the default by value, plug-ins, noise, buffers, taps, other routes. */
import { createMemoryState, createRng, runSync } from '@moebius/core';
import {
  createLocalExecutor,
  defineExecutor,
  defineRouter,
  identityExpert,
  parseGateConfig,
  plainExpert,
  topKRouter,
} from '@moebius/routing';
import type { ExpertKind, Router, RouterDefinition } from '@moebius/routing';
import {
  add,
  disposeTree,
  linearBackward,
  linearForward,
  eye,
  readHostSync,
  runOp,
  tensor,
} from '@moebius/tensor';
import type { Tensor, Tensor2D } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import {
  countParameters,
  createModel,
  type DecoderModel,
  describeParameters,
  generate,
  initialiseParameters,
  type PartsChoice,
} from '../src/index.ts';
import { cosineRouter } from './plugin-routers.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig, tinyIds, tinyModel } from './tiny-model.ts';
import { checkLeaks } from './leak-check.ts';

await prepareEngine();

checkLeaks();

const ids = tinyIds(10);
const batch = { ids, targets: Int32Array.from(ids, (_, t) => ids[(t + 1) % 10] ?? 0), batch: 2 };
const gate = parseGateConfig({ experts: 4, topK: 2 });

function modelOf(choice: PartsChoice, fields: Parameters<typeof tinyConfig>[0] = {}): DecoderModel {
  const config = tinyConfig(fields);
  return createModel({ config, parameters: initialiseParameters(config, createRng(7), choice), ...choice });
}

/** Loss and gradients of one batch, as numbers. */
function pass(
  model: DecoderModel,
  options: Parameters<DecoderModel['loss']>[1] = {},
): [number, ...number[][]] {
  const output = runSync(model.loss(batch, options));
  if (output.saved === null) throw new Error('nothing saved');
  const gradients = runSync(model.backward(output.saved));
  const values = Object.keys(gradients)
    .toSorted()
    .map((id) => [...readHostSync(gradients[id] as Tensor)]);
  disposeTree(gradients);
  return [output.total, ...values];
}

describe('the built-in gate by value', () => {
  it('is the default model, number for number, and leaves no trace in the configuration', () => {
    const [plain, given] = [tinyModel(), modelOf({ router: topKRouter(gate) })];
    expect(pass(given)).toEqual(pass(plain));
    expect(given.config).toEqual(plain.config);
    expect('moebius' in given.config).toBe(false);
    for (const model of [plain, given]) model.dispose();
  });
});

describe('a router of a plug-in with experts of several kinds', () => {
  const kinds: readonly ExpertKind[] = [plainExpert({ activation: 'silu', bias: true }), identityExpert()];
  const choice: PartsChoice = {
    router: ({ experts, topK }) => cosineRouter({ experts, topK, temperature: 0.5 }),
    experts: ({ expert }) => kinds[expert % 2] as ExpertKind,
  };

  it('has its tensors under names of their own, counted', () => {
    const config = tinyConfig();
    const list = describeParameters(config, choice);
    const layer = list.filter(({ id }) => id.startsWith('model.layers.0.mlp.'));
    expect(layer.slice(0, 6).map(({ id, shape, role }) => `${id} [${shape.join()}] ${role}`)).toEqual([
      'model.layers.0.mlp.gate.weight [4,8] matrix',
      'model.layers.0.mlp.gate.temperature [1] vector',
      'model.layers.0.mlp.experts.0.up_proj.weight [6,8] matrix',
      'model.layers.0.mlp.experts.0.down_proj.weight [6,8] matrix',
      'model.layers.0.mlp.experts.0.up_proj.bias [6] vector',
      'model.layers.0.mlp.experts.0.down_proj.bias [8] vector',
    ]);
    const built = list.reduce((sum, { shape }) => sum + shape.reduce((size, axis) => size * axis, 1), 0);
    expect(countParameters(config, choice)).toBe(built);
  });

  it('has gradients that equal central differences, for every parameter', () => {
    const model = modelOf(choice);
    const output = runSync(model.loss(batch));
    if (output.saved === null) throw new Error('nothing saved');
    const gradients = runSync(model.backward(output.saved));
    const lossAt = (): number => runSync(model.loss(batch, { training: false })).total;
    for (const id of model.parameters.ids().filter((name) => name.includes('layers.0.mlp'))) {
      const original = Float32Array.from(readHostSync(model.parameters.read(id)));
      const at = original.length >> 1;
      const step = 1e-2;
      const [high, low] = [step, -step].map((move) => {
        const values = original.slice();
        values[at] = (values[at] ?? 0) + move;
        assign(model, id, values);
        return lossAt();
      });
      assign(model, id, original);
      const gradient = readHostSync(gradients[id] as Tensor)[at] ?? NaN;
      expect(gradient, id).toBeCloseTo(((high ?? 0) - (low ?? 0)) / (2 * step), 3);
    }
    const wanted = model.parameters.ids().filter((id) => id !== 'model.norm.weight');
    expect(Object.keys(gradients)).toEqual(expect.arrayContaining(wanted));
    disposeTree(gradients);
    model.dispose();
  });

  it('generates the same text from a cache as without one', async () => {
    const model = modelOf(choice);
    const tokens: number[] = [];
    for await (const { token } of generate(model, [1, 2, 3], { maxNewTokens: 4 })) tokens.push(token);
    const again = [1, 2, 3];
    for (let n = 0; n < 4; n += 1) {
      const { hidden } = runSync(model.forward({ ids: Int32Array.from(again) }));
      const logits = model.logits(hidden);
      const last = [...readHostSync(logits)].slice(-model.config.vocab_size);
      again.push(last.indexOf(Math.max(...last)));
      disposeTree([hidden, logits]);
    }
    expect(tokens).toEqual(again.slice(3));
    model.dispose();
  });
});

function assign(model: DecoderModel, id: string, values: Float32Array): void {
  const value = tensor(values.slice(), [...model.parameters.shape(id)]);
  model.parameters.assign(id, value);
  value.dispose();
}

/** The gate with something added; not trusted, so that every output is checked. */
function gateWith(change: (base: Router) => Partial<RouterDefinition>): Router {
  const { gate: _gate, infer: _infer, ...base } = topKRouter(gate);
  return defineRouter({ ...base, trusted: false, name: 'changed', ...change(topKRouter(gate)) });
}

describe('what a model tells a router', () => {
  it('is layer, phase, ids, positions and sequences, and random numbers by layer in training alone', () => {
    const seen: string[] = [];
    const router = gateWith((base) => ({
      forward: (x, own, options) => {
        const { layer, phase, ids: tokens, positions, sequences, rng } = options;
        seen.push(`${layer} ${phase} ${tokens?.length} ${positions?.join('')} ${sequences} ${rng?.uint32()}`);
        return base.forward(x, own, options);
      },
    }));
    const model = modelOf({ router });
    const rng = createRng(3);
    const run = (options: object): string[] => {
      disposeTree(runSync(model.forward({ ids: ids.slice(0, 4), batch: 2 }, options)));
      return seen.splice(0);
    };
    const draw = (layer: number): number => createRng(3).fork(layer).uint32();
    expect(run({ training: true, rng })).toEqual([
      `0 train 4 0101 2 ${draw(0)}`,
      `2 train 4 0101 2 ${draw(2)}`,
    ]);
    expect(run({ training: true, rng })[0]).toBe(`0 train 4 0101 2 ${draw(0)}`);
    expect(run({})).toEqual(['0 evaluate 4 0101 2 undefined', '2 evaluate 4 0101 2 undefined']);
    expect(run({ phase: 'train' })[0]).toContain('0 train');
    model.dispose();
  });

  it('is the mask: padding is not routed, changes no other token and no loss', () => {
    const model = tinyModel();
    const mask = Uint8Array.of(1, 1, 1, 0, 0);
    const [whole, padded] = [ids.slice(0, 3), ids.slice(0, 5)];
    const observed: number[] = [];
    const a = runSync(model.forward({ ids: whole }));
    const b = runSync(
      model.forward(
        { ids: padded, mask },
        { observe: (_, { plan, mask: given }) => observed.push(plan.stats.pairs, given?.length ?? 0) },
      ),
    );
    const [left, right] = [a, b].map(({ hidden }) => [...readHostSync(hidden)].slice(0, 24));
    for (const [at, value] of (left ?? []).entries()) expect(right?.[at]).toBeCloseTo(value, 5);
    expect(observed).toEqual([6, 5, 6, 5]);
    expect(() => runSync(model.forward({ ids: padded, mask: mask.slice(1) }))).toThrow(
      'mask length: must be 5, got 4',
    );
    disposeTree([a, b]);
    model.dispose();
  });

  it('is what earlier routers offered: gradients flow back through it', () => {
    // Layer 2 adds the logits of layer 0 to its own.
    const tapped: PartsChoice['router'] = ({ layer }) => gateWith((base) => tappedHooks(base, layer));
    const model = modelOf({ router: tapped });
    const { saved, total } = runSync(model.loss(batch));
    if (saved === null) throw new Error('nothing saved');
    const gradients = runSync(model.backward(saved));
    const id = 'model.layers.0.mlp.gate.weight';
    const original = Float32Array.from(readHostSync(model.parameters.read(id)));
    const lossAt = (move: number): number => {
      const values = original.slice();
      values[5] = (values[5] ?? 0) + move;
      assign(model, id, values);
      return runSync(model.loss(batch, { training: false })).total;
    };
    const difference = (lossAt(1e-2) - lossAt(-1e-2)) / 2e-2;
    expect(readHostSync(gradients[id] as Tensor)[5]).toBeCloseTo(difference, 3);
    const plain = tinyModel();
    expect(runSync(plain.loss(batch, { training: false })).total).not.toBe(total);
    disposeTree(gradients);
    plain.dispose();
    model.dispose();
  });
});

/** The gate's logits, offered by layer 0 and added before the softmax in layer 2. */
function tappedHooks(base: Router, layer: number): Partial<RouterDefinition> {
  return {
    forward: (x, own, options) =>
      runOp('tapped', () => {
        const { value, saved: linear } = linearForward(x, own['weight'] as Tensor2D);
        const earlier = options.taps?.['logits'];
        const logits = earlier === undefined ? value : add<Tensor2D>(value, earlier);
        const { saved, ...output } = base.forward(logits, { weight: eye(4) }, options);
        const taps = layer === 0 ? { logits: add<Tensor2D>(value, 0) } : {};
        return { ...output, saved: { linear, gate: saved, used: earlier !== undefined }, taps };
      }),
    backward: (saved, { dtaps, ...upstream }) =>
      runOp('tapped.backward', () => {
        const own = saved as { linear: Parameters<typeof linearBackward>[0]; gate: unknown; used: boolean };
        const { dx: dlogits } = base.backward(own.gate, upstream);
        const through = dtaps?.['logits'];
        const total = through === undefined ? dlogits : add<Tensor2D>(dlogits, through);
        const { dx, dweight } = linearBackward(own.linear, total);
        return { dx, parameters: { weight: dweight }, dtaps: own.used ? { logits: dlogits } : {} };
      }),
    parameterShapes: () => ({ weight: [4, 8] }),
  };
}

describe('buffers', () => {
  const counting = gateWith((base) => ({
    bufferShapes: () => ({ seen: [4] }),
    initialiseBuffer: () => new Float32Array(4).fill(1),
    advance: ({ seen }, { load }) => ({
      seen: (seen ?? new Float32Array(4)).map((n, e) => n + (load[e] ?? 0)),
    }),
    forward: base.forward,
  }));

  it('begin as the router says, advance by load, and go through the state ports bit for bit', () => {
    const model = modelOf({ router: counting });
    expect(model.routerState.list().map(({ description }) => description.id)).toEqual([
      'model.layers.0.mlp.gate.seen',
      'model.layers.2.mlp.gate.seen',
    ]);
    model.routerState.advance([{ layer: 2, load: [1, 0, 0.5, 9] }], 1);
    expect([...(model.routerState.buffers(0)['seen'] ?? [])]).toEqual([1, 1, 1, 1]);
    expect([...(model.routerState.buffers(2)['seen'] ?? [])]).toEqual([2, 1, 1.5, 10]);
    const memory = createMemoryState();
    const writer = memory.writer();
    runSync(writer.begin());
    runSync(model.routerState.exportTo(writer));
    runSync(writer.commit());
    const other = modelOf({ router: counting });
    runSync(other.routerState.importFrom(memory.reader()));
    expect(other.routerState.buffers(2)).toEqual(model.routerState.buffers(2));
    expect(tinyModelIsEmpty()).toBe(true);
    model.dispose();
    other.dispose();
  });
});

function tinyModelIsEmpty(): boolean {
  const model = tinyModel();
  const { isEmpty } = model.routerState;
  model.dispose();
  return isEmpty;
}

describe('what does not fit', () => {
  const config = tinyConfig();
  const messageOf = (choice: object): string => {
    const parameters = initialiseParameters(config, createRng(1));
    try {
      createModel({ config, parameters, ...choice });
    } catch (error) {
      return (error as Error).message;
    } finally {
      parameters.dispose();
    }
    return 'no error';
  };

  it('is refused when the model is made, by name', () => {
    const { gate: _gate, infer: _infer, ...base } = topKRouter(gate);
    const soft = defineRouter({ ...base, name: 'soft', route: 'slots', trusted: false });
    const local = createLocalExecutor();
    const takesPairs = defineExecutor({ ...local, name: 'pairs-only', accepts: ['pairs'] });
    expect(messageOf({ router: soft, executor: takesPairs })).toBe(
      'layers[0] executor "pairs-only": must accept routes of kind slots, which router "soft" gives, got pairs (pass an executor that does)',
    );
    const takesSlots = defineExecutor({ ...local, name: 'slots-only', accepts: ['slots'] });
    expect(messageOf({ executor: takesSlots })).toBe(
      'layers[0] executor "slots-only": must accept routes of kind pairs, which router "top-k" gives, got slots (pass an executor that does)',
    );
    expect(messageOf({ router: topKRouter(parseGateConfig({ experts: 6, topK: 2 })) })).toBe(
      'layers[0] router "top-k": must route to num_experts 4, got 6 (make it for the model, or change num_experts)',
    );
    expect(messageOf({ router: () => ({ name: 'mine' }) })).toBe(
      'layers[0] router: must be made by defineRouter, got {"name":"mine"}',
    );
    expect(messageOf({ experts: () => topKRouter(gate) })).toBe(
      'layers[0] kind of expert 0: must be made by defineExpert, got router "top-k"',
    );
    const dotted = defineRouter({ ...base, name: 'dotted', parameterShapes: () => ({ 'a.b': [1] }) });
    expect(messageOf({ router: dotted })).toBe(
      'layers[0] router "dotted": tensors must have names of letters, digits and _, got "a.b" (they become names in files)',
    );
  });

  it('is refused when a plug-in fails in the middle of a step, and every tensor is freed', () => {
    const failing = (hook: 'forward' | 'backward'): DecoderModel =>
      modelOf({
        router: ({ layer }) =>
          gateWith(() =>
            layer === 2
              ? {
                  [hook]: () => {
                    throw new Error('boom');
                  },
                }
              : {},
          ),
      });
    const forward = failing('forward');
    expect(() => runSync(forward.loss(batch))).toThrow(
      'layers[2] router "changed" forward: must not throw, got Error: boom (mend the plug-in)',
    );
    forward.dispose();
    const backward = failing('backward');
    const { saved } = runSync(backward.loss(batch));
    expect(() => runSync(backward.backward(saved as never))).toThrow(
      'layers[2] router "changed" backward: must not throw, got Error: boom (mend the plug-in)',
    );
    backward.dispose();
  });
});
