/** Balance losses that a run names: built-in ones with options, and what is refused. */
import { isMoebiusError } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { parseTrainConfig } from '../src/index.ts';
import type { StepEvent, TrainConfigInput } from '../src/index.ts';
import { loadRunPlugins } from '../src/plugins/run-plugins.ts';
import { runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

const train = async (parts: Partial<TrainConfigInput>): Promise<StepEvent[]> =>
  stepsOf(await runToEnd(smallConfig(place, parts), smallOptions(place)));

const messageOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
  } catch (error) {
    return isMoebiusError(error) ? error.message : String(error);
  }
  return 'nothing thrown';
};

describe('losses by name', () => {
  it('are in the totals with their coefficients', async () => {
    const balance = {
      importance: 0.5,
      'mutual-information': { coefficient: 0.01, diversity: 2 },
      'load-balance': { coefficient: 0.02, pooling: 'per-sequence', divideByTopK: true },
      'device-balance': { coefficient: 0, devices: 2 },
    };
    const [step] = await train({
      duration: { steps: 1 },
      losses: { loadBalance: 0, gateZ: 0, balance },
    });
    const { aux = {}, loss = 0, totalLoss } = step ?? {};
    expect(Object.keys(aux).toSorted()).toEqual(Object.keys(balance).toSorted());
    expect(aux['importance']).toBeGreaterThan(0);
    expect(aux['load-balance']).toBeGreaterThan(0.9);
    expect(totalLoss).toBeCloseTo(
      loss + 0.5 * aux['importance']! + 0.01 * aux['mutual-information']! + 0.02 * aux['load-balance']!,
      5,
    );
  });

  it('with accumulation those of the whole step, also where the gradient needs sums or parameters', async () => {
    const losses = {
      loadBalance: 0,
      gateZ: 0,
      balance: { importance: 1, 'mutual-information': 0.5, orthogonality: 0.1, entropy: 0.1 },
    };
    const duration = { steps: 3 };
    const whole = await train({ losses, duration, batch: { sequences: 4, length: 32 } });
    const parts = await train({ losses, duration, batch: { sequences: 2, length: 32, accumulation: 2 } });
    for (const [at, step] of parts.entries()) {
      for (const name of Object.keys(losses.balance))
        expect(step.aux[name]).toBeCloseTo(whole[at]?.aux[name] ?? NaN, 3);
      expect(step.gradientNorm).toBeCloseTo(whole[at]?.gradientNorm ?? NaN, 2);
    }
  });

  it('move what they name: orthogonality falls where it counts and not where it does not', async () => {
    const last = async (coefficient: number): Promise<number> => {
      const losses = { loadBalance: 0, gateZ: 0, balance: { orthogonality: coefficient } };
      const steps = await train({ losses, optimizer: { learningRate: 2e-2 }, duration: { steps: 12 } });
      return steps.at(-1)?.aux['orthogonality'] ?? NaN;
    };
    const [without, strong] = [await last(0), await last(10)];
    expect(strong).toBeLessThan(0.8 * without);
  });

  it('reach the ReLU gate: its own coefficient makes the sparsity loss bite', async () => {
    const run = (lambda: number): Promise<StepEvent[]> =>
      train({
        router: { name: 'relu', topK: 1, lambda, rate: 1.0001 },
        losses: { loadBalance: 0, gateZ: 0, balance: { sparsity: 1 } },
        duration: { steps: 12 },
      });
    const pairs = (steps: readonly StepEvent[]): number =>
      (steps.at(-1)?.routing ?? []).flatMap(({ load }) => [...load]).reduce((sum, count) => sum + count, 0);
    const [weak, strong] = [await run(1e-8), await run(10)];
    expect(weak[0]?.aux['sparsity']).toBeLessThan(1e-7);
    expect(strong[0]?.aux['sparsity']).toBeGreaterThan(1e-3);
    expect(pairs(strong)).toBeLessThan(0.8 * pairs(weak));
  });

  it('are refused in words', async () => {
    const load = (losses: object): Promise<unknown> =>
      loadRunPlugins(parseTrainConfig({ ...smallConfig(place), losses }), { from: place.folder });
    expect(await messageOf(load({ balance: { importence: 1 } }))).toBe(
      'losses.balance.importence: must name a plug-in of kind balance-loss (load-balance, first-choice-balance, device-balance, communication-balance, null-expert-balance, localized-balance, importance, load-estimate, mutual-information, sparsity, z-loss, entropy, confidence, expert-count, orthogonality), got "importence" (did you mean "importance"?)',
    );
    expect(
      await messageOf(load({ balance: { importance: { coefficient: 1, of: 'some', scope: 'x' } } })),
    ).toBe(
      'losses.balance.importance: must be a valid configuration, got 2 faults:\n  of: must be one of "all", "chosen", "renormalised", got "some"\n  scope: must be a known key, got "scope" (remove it; known keys: pooling, deviation, of)',
    );
    expect(await messageOf(load({ balance: { 'z-loss': 1 } }))).toBe(
      'losses.balance.z-loss: must not stand beside losses.gateZ, got losses.gateZ 0.001 (set that to 0)',
    );
    expect(() => parseTrainConfig({ ...smallConfig(place), losses: { balance: { entropy: {} } } })).toThrow(
      'losses.balance.entropy',
    );
  });
});
