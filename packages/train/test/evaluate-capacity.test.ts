/** @file Held-out loss under capacity settings: dropless is the model itself, differences are paired, nothing of the model changes. */
import { isMoebiusError } from '@moebius/core';
import { capacityPolicy, defineRouter, parseCapacityConfig } from '@moebius/routing';
import type { CapacityConfig } from '@moebius/routing';
import { createLatencyModel } from '@moebius/routing/latency';
import { countTensors } from '@moebius/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import {
  capacityGrid,
  createTrainer,
  differenceInLoss,
  evaluateCapacity,
  evaluateDocuments,
  packDocuments,
} from '../src/index.ts';
import type { CapacitySetting, TokenShard, Trainer } from '../src/index.ts';
import { collect, smallConfig, smallOptions, useWorkplace } from './small-run.ts';

const place = useWorkplace();
let trainer: Trainer;
let shard: TokenShard;
beforeAll(async () => {
  trainer = createTrainer(smallConfig(place, { duration: { steps: 6 } }), smallOptions(place));
  await collect(trainer);
  const texts = [
    'A whale, and a second whale.',
    'Fellow citizens of the Senate',
    'We cannot escape history. ',
  ];
  const documents = texts.map((text, index) => ({ name: `${index}`, text: text.repeat(index + 4) }));
  shard = packDocuments(documents, trainer.dataset.tokenizer);
}, 120_000);
afterAll(() => trainer.dispose());

const windows = { length: 16, sequences: 4 };

function setting(name: string, value: object): CapacitySetting {
  return { name, capacity: parseCapacityConfig({ method: 'drop', ...value }) };
}

async function messageOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => 'no error',
    (reason: unknown) => reason,
  );
  return isMoebiusError(error) ? `${error.code}: ${error.message}` : String(error);
}

describe('evaluateCapacity', () => {
  it('without a capacity, and with an infinite one, is what evaluateDocuments tells', async () => {
    const { model } = trainer;
    const tensors = countTensors();
    const plain = await evaluateDocuments(model, shard, windows);
    const told: string[] = [];
    const { dropless, settings } = await evaluateCapacity(model, shard, {
      ...windows,
      settings: [setting('no cap', { gamma: Infinity }), setting('cap', { gamma: 0.5 })],
      onMeasured: ({ name }) => told.push(name),
    });
    expect(told).toEqual(['dropless', 'no cap', 'cap']);
    for (const [at, document] of plain.byDocument.entries()) {
      expect(dropless.byDocument[at]?.loss).toBeCloseTo(document.loss, 5);
    }
    const [none, cap] = settings;
    expect(none?.byDocument).toEqual(dropless.byDocument);
    expect(none).toMatchObject({ dropRatio: 0, addedRatio: 0, orphanRatio: 0, peak: dropless.peak });
    expect(none?.difference).toEqual({ difference: 0, error: 0, interval: [0, 0] });
    expect(cap?.loss).not.toBe(dropless.loss);
    expect(cap?.dropRatio).toBeGreaterThan(0.3);
    expect(cap?.difference.difference).toBeCloseTo((cap?.loss ?? NaN) - dropless.loss, 9);
    expect(countTensors()).toBe(tensors);
    expect((await evaluateDocuments(model, shard, windows)).byDocument).toEqual(plain.byDocument);
  });

  it('γ = 0 drops every pair and leaves every token an orphan', async () => {
    const { settings } = await evaluateCapacity(trainer.model, shard, {
      ...windows,
      settings: [setting('nothing', { gamma: 0 })],
    });
    expect(settings[0]).toMatchObject({
      dropRatio: 1,
      orphanRatio: 1,
      peak: 0,
      layerSeconds: null,
      speedUp: null,
    });
  });

  it('predicts the time of the layers: largest loads, where a row takes a second', async () => {
    const { num_experts: experts } = trainer.model.config;
    const placement = { devices: experts, hostOf: null };
    const latency = createLatencyModel({ experts, placement, times: { rows: [1], seconds: [1] } });
    const { dropless, settings } = await evaluateCapacity(trainer.model, shard, {
      ...windows,
      latency,
      settings: [setting('cap', { gamma: 1 })],
    });
    const [cap] = settings;
    for (const [at, layer] of (cap?.layers ?? []).entries()) {
      expect(layer.layer).toBe(dropless.layers[at]?.layer);
      expect(layer.seconds).toBeLessThan(layer.secondsBefore ?? NaN);
      expect(layer.peak).toBeLessThan(layer.peakBefore);
      expect(layer.utilisation).toBeGreaterThan(0.3);
      expect(layer.utilisation).toBeLessThanOrEqual(1);
    }
    expect(cap?.speedUp).toBeCloseTo((dropless.layerSeconds ?? NaN) / (cap?.layerSeconds ?? NaN), 12);
    expect(dropless.speedUp).toBe(1);
  });

  it('takes a policy of your own', async () => {
    const policy = capacityPolicy(parseCapacityConfig({ method: 'expert-drop', fraction: 0.5 }));
    const { settings } = await evaluateCapacity(trainer.model, shard, {
      ...windows,
      settings: [{ name: 'own', capacity: policy }],
    });
    expect(settings[0]?.dropRatio).toBeGreaterThan(0);
  });

  it('refuses what does not fit before anything is measured', async () => {
    const measured: string[] = [];
    const under = (...settings: CapacitySetting[]): Promise<string> => {
      const options = {
        ...windows,
        settings,
        onMeasured: ({ name }: { name: string }) => measured.push(name),
      };
      return messageOf(evaluateCapacity(trainer.model, shard, options));
    };
    const { num_experts: experts } = trainer.model.config;
    const hostOf = Array.from({ length: experts - 1 }, () => 0);
    expect(await under(setting('a', { gamma: 1, placement: { devices: 1, hostOf } }))).toBe(
      `configuration: capacity policy "token-drop": must be a valid configuration, got 1 fault:\n  placement.hostOf: must cover experts ${experts}, got ${experts - 1} entries (list a device for each)`,
    );
    expect(await under(setting('a', { gamma: 1 }), setting('a', { gamma: 2 }))).toBe(
      'configuration: capacity settings: must have names of their own, got "a" twice (dropless is always measured)',
    );
    const slots = trainer.model.aroundRouters((router) =>
      defineRouter({ ...router, name: 'soft', route: 'slots' }),
    );
    expect(
      await messageOf(evaluateCapacity(slots, shard, { ...windows, settings: [setting('a', { gamma: 1 })] })),
    ).toBe(
      'configuration: layers[0] router "soft": must route pairs to be capped, got slots (only pairs can be dropped: measure this model without a capacity)',
    );
    slots.dispose();
    expect(measured).toEqual([]);
  });
});

describe('capacityGrid', () => {
  const sizes = { experts: 8, topK: 2 };
  const configOf = (settings: readonly CapacitySetting[], name: string): CapacityConfig | undefined =>
    settings.find((entry) => entry.name === name)?.capacity as CapacityConfig | undefined;

  it('combines methods, keys and factors; Expert Drop once', () => {
    const methods = ['token', 'expanded', 'top-m', 'device', 'reroute', 'expert-drop'];
    const settings = capacityGrid({
      gammas: [2, 1],
      keys: ['score', 'order'],
      methods,
      devices: 4,
      ...sizes,
    });
    expect(settings).toHaveLength(5 * 2 * 2 + 1);
    expect(new Set(settings.map(({ name }) => name)).size).toBe(settings.length);
    const shared = { gamma: 2, key: 'order', scope: 'rank', placement: { devices: 4, hostOf: null } };
    expect(configOf(settings, 'token order 2')).toMatchObject({ ...shared, method: 'drop', expand: null });
    expect(configOf(settings, 'expanded order 2')).toMatchObject({ ...shared, expand: { kind: 'local' } });
    expect(configOf(settings, 'top-m order 2')).toMatchObject({ ...shared, expand: { kind: 'top-m', m: 4 } });
    expect(configOf(settings, 'device order 2')).toMatchObject({ ...shared, granularity: 'device' });
    expect(configOf(settings, 'reroute order 2')).toMatchObject({ ...shared, method: 'reroute' });
    expect(configOf(settings, 'expert-drop')).toMatchObject({
      method: 'expert-drop',
      fraction: 0.1,
      minSkipped: 1,
    });
    const [plain] = capacityGrid({ gammas: [1], scope: 'global', ...sizes });
    expect(plain?.capacity).toMatchObject({ scope: 'global', placement: null });
  });

  it('tells every fault at once', () => {
    expect(() =>
      capacityGrid({ gammas: [-1, NaN], keys: ['skore'], methods: ['tokens'], devices: 3, ...sizes }),
    ).toThrow(
      'capacity: must be a valid configuration, got 5 faults:\n' +
        '  gammas[0]: must be at least 0, got -1 (a capacity is a multiple of the mean load: 1.5)\n' +
        '  gammas[1]: must be at least 0, got NaN (a capacity is a multiple of the mean load: 1.5)\n' +
        '  keys[0]: must be one of score, order, reverse, random, got "skore" (did you mean "score"?)\n' +
        '  methods[0]: must be one of token, expanded, top-m, device, reroute, expert-drop, got "tokens" (did you mean "token"?)\n' +
        '  devices: must divide experts 8, got 3 (choose a divisor of 8)',
    );
    expect(() => capacityGrid({ gammas: [], devices: 1.5, ...sizes })).toThrow(
      'capacity: must be a valid configuration, got 2 faults:\n' +
        '  gammas: must name a capacity factor, got none (for example 2, 1.5, 1)\n' +
        '  devices: must be an integer of at least 1, got 1.5 (count the devices)',
    );
  });
});

describe('differenceInLoss', () => {
  const left = Array.from({ length: 30 }, (_, at) => ({ loss: 2 + (at % 7), tokens: 10 + at }));
  it('weighs documents by tokens, and its interval holds the difference', () => {
    const right = left.map(({ loss, tokens }, at) => ({ loss: loss + (at % 2), tokens }));
    const total = left.reduce((sum, { tokens }) => sum + tokens, 0);
    const odd = left.reduce((sum, { tokens }, at) => sum + (at % 2) * tokens, 0);
    const { difference, interval, error } = differenceInLoss(left, right);
    expect(difference).toBeCloseTo(odd / total, 12);
    const [low, high] = interval ?? [NaN, NaN];
    expect(low).toBeLessThan(difference);
    expect(high).toBeGreaterThan(difference);
    expect(high - low).toBeGreaterThan(3 * (error ?? NaN));
    expect(high - low).toBeLessThan(5 * (error ?? NaN));
  });
  it('of a shift that is the same everywhere is sure, and of a single document unknown', () => {
    const { interval, error } = differenceInLoss(
      left,
      left.map(({ loss, tokens }) => ({ loss: loss + 1, tokens })),
    );
    expect(interval?.map((value) => value.toFixed(9))).toEqual(['1.000000000', '1.000000000']);
    expect(error).toBeLessThan(1e-9);
    expect(differenceInLoss(left.slice(0, 1), left.slice(0, 1))).toEqual({
      difference: 0,
      error: null,
      interval: null,
    });
  });
  it('refuses other documents', () => {
    expect(() => differenceInLoss(left, left.slice(1))).toThrow(
      'difference: both sides must have the same documents, got 30 and 29 (measure them on one text)',
    );
    const other = left.map((entry, at) => (at === 3 ? { ...entry, tokens: 1 } : entry));
    expect(() => differenceInLoss(left, other)).toThrow(
      'difference: both sides must have the same documents, got 13 and 1 tokens of document 3 (measure them on one text)',
    );
  });
});
