/** @file A model behind a capacity: the same weights, its own files as they were, training and generation. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { createRng, runSync } from '@moebius/core';
import {
  capacityPolicy,
  parseCapacityConfig,
  parseGateConfig,
  topKRouter,
  defineRouter,
} from '@moebius/routing';
import { createRouteRecorder, recordRoutes } from '@moebius/routing/metrics';
import { disposeTree, readHostSync } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import {
  capModel,
  capRouters,
  createModel,
  type DecoderModel,
  generate,
  initialiseParameters,
  type LossSaved,
  saveModel,
} from '../src/index.ts';
import { prepareEngine } from './prepare-engine.ts';
import { tinyConfig, tinyIds } from './tiny-model.ts';
import { checkLeaks } from './leak-check.ts';

await prepareEngine();

checkLeaks();

function tinyModel(): DecoderModel {
  const config = tinyConfig();
  return createModel({ config, parameters: initialiseParameters(config, createRng(7)) });
}

function policy(value: object) {
  return capacityPolicy(parseCapacityConfig({ method: 'drop', ...value }));
}

function hidden(model: DecoderModel): number[] {
  const output = runSync(model.forward({ ids: tinyIds(12) }));
  const values = [...readHostSync(output.hidden)];
  disposeTree(output);
  return values;
}

describe('capModel', () => {
  it('caps what runs, and leaves the model and its weights as they were', () => {
    const model = tinyModel();
    const plain = hidden(model);
    const capped = capModel(model, policy({ gamma: 0.5 }));
    const free = capModel(model, () => policy({ gamma: Infinity }));
    expect(hidden(capped)).not.toEqual(plain);
    expect(hidden(free)).toEqual(plain);
    expect(capped.parameters).toBe(model.parameters);
    expect(capped.parts).toBe(model.parts);
    expect(capped.config).toEqual(model.config);
    const twice = capModel(capped, policy({ gamma: 0 }));
    const none = capModel(model, policy({ gamma: 0 }));
    expect(hidden(twice)).toEqual(hidden(none));
    for (const each of [capped, free, twice, none]) each.dispose();
    expect(hidden(model)).toEqual(plain);
    model.dispose();
  });

  it('saves the model without the policy', () => {
    const root = fs.mkdtempSync(path.join(os.tmpdir(), 'moebius-cap-'));
    const model = tinyModel();
    const capped = capModel(model, policy({ gamma: 1 }));
    saveModel(path.join(root, 'capped'), capped);
    saveModel(path.join(root, 'plain'), model);
    for (const name of fs.readdirSync(path.join(root, 'plain'))) {
      const read = (folder: string): string =>
        fs.readFileSync(path.join(root, folder, name)).toString('base64');
      expect(read('capped')).toBe(read('plain'));
    }
    capped.dispose();
    model.dispose();
    fs.rmSync(root, { recursive: true });
  });

  it('acts in the phases that the policy names: prefill is capped here, decode is not', async () => {
    const model = tinyModel();
    const textOf = async (from: DecoderModel): Promise<number[]> => {
      const ids: number[] = [];
      for await (const { token } of generate(from, tinyIds(12), { maxNewTokens: 4, stopTokens: [] }))
        ids.push(token);
      return ids;
    };
    const recorder = createRouteRecorder();
    const around = capRouters(policy({ gamma: 0, applyTo: 'prefill' }));
    const watched = model.aroundRouters((router, layer) => recordRoutes(around(router, layer), recorder));
    expect(await textOf(watched)).toHaveLength(4);
    const pairsOf = (phase: string): number[] =>
      recorder
        .trace()
        .passes.filter((pass) => pass.phase === phase)
        .flatMap(({ layers }) => layers.map(({ plan }) => plan.stats.pairs));
    expect(new Set(pairsOf('prefill'))).toEqual(new Set([0]));
    expect(new Set(pairsOf('decode'))).toEqual(new Set([model.config.num_experts_per_tok]));
    watched.dispose();
    model.dispose();
  });

  it('trains: gradients of a capped model reach the router', () => {
    const config = tinyConfig();
    const parameters = initialiseParameters(config, createRng(7));
    const model = createModel({ config, parameters, aroundRouter: capRouters(policy({ gamma: 1 })) });
    const ids = tinyIds(12);
    const out = runSync(model.loss({ ids, targets: tinyIds(12) }));
    const gradients = runSync(model.backward(out.saved as LossSaved));
    const routers = Object.entries(gradients).filter(([id]) => id.endsWith('gate.weight'));
    expect(routers.length).toBeGreaterThan(0);
    for (const [, gradient] of routers) {
      expect([...readHostSync(gradient)].some((value) => value !== 0)).toBe(true);
    }
    disposeTree(gradients);
    model.dispose();
  });

  it('refuses routers without pairs, and a policy that does not fit', () => {
    const model = tinyModel();
    const { num_experts: experts } = model.config;
    const slots = defineRouter({
      ...topKRouter(parseGateConfig({ experts, topK: 1 })),
      name: 'soft',
      route: 'slots',
    });
    expect(() => capRouters(policy({ gamma: 1 }))(slots, 3)).toThrow(
      'layers[3] router "soft": must route pairs to be capped, got slots (only pairs can be dropped: measure this model without a capacity)',
    );
    expect(() => capModel(model, policy({ gamma: 1, maxPerToken: experts + 1 }))).toThrow(
      `capacity policy "token-drop": must be a valid configuration, got 1 fault:\n  maxPerToken: must be at most experts ${experts}, got ${experts + 1} (lower it)`,
    );
    model.dispose();
  });
});
