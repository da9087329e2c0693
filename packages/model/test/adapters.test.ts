/** LoRA experts in a decoder: what is frozen, where it is named, what is counted, saved and generated. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createRng, runSync } from '@moebius/core';
import { loraExpert } from '@moebius/routing/experts';
import { disposeTree, readHostSync } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import {
  countParameters,
  createModel,
  type DecoderModel,
  describeParameters,
  generate,
  initialiseParameters,
  loadModel,
  type PartsChoice,
  saveModel,
} from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig, tinyIds } from './tiny-model.ts';
import { checkLeaks } from './leak-check.ts';

await prepareEngine();

checkLeaks();

const ids = tinyIds(10);
const batch = { ids, targets: Int32Array.from(ids, (_, t) => ids[(t + 1) % 10] ?? 0), batch: 2 };

function modelOf(choice: PartsChoice): DecoderModel {
  const config = tinyConfig();
  return createModel({ config, parameters: initialiseParameters(config, createRng(7), choice), ...choice });
}

function gradientsOf(model: DecoderModel): Record<string, number[]> {
  const output = runSync(model.loss(batch));
  if (output.saved === null) throw new Error('nothing saved');
  const gradients = runSync(model.backward(output.saved));
  const values = Object.fromEntries(
    Object.entries(gradients).map(([id, gradient]) => [id, [...readHostSync(gradient)]]),
  );
  disposeTree(gradients);
  return values;
}

const cases = [
  { scope: 'layer', base: 'model.layers.0.mlp.gate_proj.weight', unit: 'layers.0' },
  { scope: 'expert', base: 'model.layers.0.mlp.experts.1.gate_proj.weight', unit: 'layers.0.experts.1' },
] as const;

describe.each(cases)('P1: LoRA experts in a model, base of the $scope', ({ scope, base, unit }) => {
  const kind = loraExpert({ rank: 2, alpha: 4, scope });
  const choice: PartsChoice = { experts: kind };

  it('names and counts base and adapters', () => {
    const config = tinyConfig();
    const list = describeParameters(config, choice);
    expect(list.find(({ id }) => id === base)).toMatchObject({ shape: [6, 8], unit });
    expect(list.find(({ id }) => id === 'model.layers.0.mlp.experts.1.gateA')).toMatchObject({
      shape: [2, 8],
      unit: 'layers.0.experts.1',
    });
    expect(new Set(list.map(({ id }) => id)).size).toBe(list.length);
    const built = list.reduce((sum, { shape }) => sum + shape.reduce((size, axis) => size * axis, 1), 0);
    expect(countParameters(config, choice)).toBe(built);
  });

  it('gives adapters a gradient and the base none, and all adapters begin as the base', () => {
    const model = modelOf(choice);
    const gradients = Object.keys(gradientsOf(model));
    const trained = model.parameters.ids().filter((id) => gradients.includes(id));
    expect(trained).toContain('model.layers.0.mlp.experts.3.downB');
    expect(trained).toContain('model.layers.0.mlp.gate.weight');
    expect(
      gradients.filter((id) => /layers\.[02]\.mlp\.(experts\.\d+\.)?(gate|up|down)_proj/.test(id)),
    ).toEqual([]);
    const zeros = model.parameters.ids().filter((id) => /\.(gate|up|down)B$/.test(id));
    expect(zeros.length).toBeGreaterThan(0);
    for (const id of zeros) expect(readHostSync(model.parameters.read(id)).every((v) => v === 0)).toBe(true);
    model.dispose();
  });

  it('is trained by an optimizer that leaves the base alone, weight decay included', () => {
    const model = modelOf(choice);
    const read = (id: string): number[] => [...readHostSync(model.parameters.read(id))];
    const start = read(base);
    const output = runSync(model.loss(batch));
    const gradients = runSync(model.backward(output.saved!));
    model.parameters.update(gradients, { optimizer: { lr: 0.1, weightDecay: 0.5 } });
    expect(read(base)).toEqual(start);
    // B began as 0. Of ten tokens, not every expert has one.
    const moved = [0, 1, 2, 3].filter((e) =>
      read(`model.layers.0.mlp.experts.${e}.gateB`).some((value) => value !== 0),
    );
    expect(moved.length).toBeGreaterThan(1);
    disposeTree(gradients);
    model.dispose();
  });

  it('opens again from its folder when the kind is given, and generates', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'moebius-lora-'));
    try {
      const model = modelOf(choice);
      await saveModel(folder, model);
      const loaded = await loadModel(folder, { plugins: [kind] });
      expect(loaded.config.moebius?.experts?.[0]?.name).toBe(kind.name);
      expect(gradientsOf(loaded)).toEqual(gradientsOf(model));
      const tokens: number[] = [];
      for await (const { token } of generate(loaded, [1, 2, 3], { maxNewTokens: 3 })) tokens.push(token);
      expect(tokens).toHaveLength(3);
      for (const open of [model, loaded]) open.dispose();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('adapters alone', () => {
  it('are units of their own: captured without the base, they restore the model', () => {
    const kind = loraExpert({ rank: 2, alpha: 4 });
    const [trained, fresh] = [modelOf({ experts: kind }), modelOf({ experts: kind })];
    const units = trained.parameters.units().filter((unit) => unit.includes('.experts.'));
    const held = units.flatMap((unit) => trained.parameters.idsOf(unit));
    expect(held.every((id) => /\.(gate|up|down)[AB]$/.test(id))).toBe(true);
    expect(held).toHaveLength(3 * 2 * 4 * 2);
    const output = runSync(trained.loss(batch));
    const gradients = runSync(trained.backward(output.saved!));
    const adapters = Object.fromEntries(Object.entries(gradients).filter(([id]) => held.includes(id)));
    trained.parameters.update(adapters, { optimizer: { lr: 0.1 } });
    for (const id of held) fresh.parameters.assign(id, trained.parameters.read(id));
    expect(gradientsOf(fresh)).toEqual(gradientsOf(trained));
    disposeTree(gradients);
    for (const model of [trained, fresh]) model.dispose();
  });
});
