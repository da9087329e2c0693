/** @file Capacity in training: what it drops, where it acts, what of it is saved. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { isMoebiusError } from '@moebius/core';
import { loadModel } from '@moebius/model';
import { countTensors } from '@moebius/tensor';
import { describe, expect, it } from 'vitest';

import { evaluate, parseTrainConfig } from '../src/index.ts';
import type { EvaluateEvent, TrainConfigInput, TrainEvent } from '../src/index.ts';
import { runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

function lossesOf(events: readonly TrainEvent[]): number[] {
  return stepsOf(events).map(({ loss }) => loss);
}

function evaluationOf(events: readonly TrainEvent[]): EvaluateEvent {
  const found = events.find((event) => event.kind === 'evaluate');
  if (found === undefined) throw new Error('no evaluation');
  return found;
}

function run(
  capacity: TrainConfigInput['capacity'],
  parts: Partial<TrainConfigInput> = {},
): Promise<TrainEvent[]> {
  const config = smallConfig(place, {
    duration: { steps: 4 },
    ...parts,
    ...(capacity === undefined ? {} : { capacity }),
  });
  return runToEnd(config, smallOptions(place));
}

describe('capacity of a run', () => {
  it('has a factor for training and another for evaluation', async () => {
    const plain = await run(undefined);
    const tensors = countTensors();
    const wide = await run({ train: 100, evaluate: 100 });
    expect(lossesOf(wide)).toEqual(lossesOf(plain));
    const trained = await run({ train: 0.5 });
    expect(lossesOf(trained)[0]).not.toBe(lossesOf(plain)[0]);
    const measured = await run({ evaluate: 0.5 });
    expect(lossesOf(measured)).toEqual(lossesOf(plain));
    expect(evaluationOf(measured).loss).not.toBe(evaluationOf(plain).loss);
    expect(countTensors()).toBe(tensors);
  });

  it('is named once when it looks ahead', async () => {
    const warningsOf = (events: readonly TrainEvent[]): unknown =>
      events.flatMap((event) => (event.kind === 'start' ? [event.warnings] : []));
    expect(warningsOf(await run({ train: 1, evaluate: 1, key: 'order' }))).toEqual([undefined]);
    expect(warningsOf(await run({ train: 1, key: 'order', evaluate: 2, method: 'reroute' }))).toEqual([
      [expect.stringMatching(/^routers of layers 0, 1 \("top-k-with-reroute"\): are not causal/)],
    ]);
  });

  it('is not part of the model that is saved', async () => {
    const output = place.freshOutput();
    const events = await run({ train: 1, evaluate: 1, key: 'order' }, { output });
    const config = readFileSync(join(output, 'model', 'config.json'), 'utf8');
    expect(config).not.toContain('capacity');
    expect(config).not.toContain('token-drop');
    const model = await loadModel(join(output, 'model'));
    expect(model.parts.routers[0]?.name).toBe('top-k');
    expect(typeof evaluate).toBe('function');
    expect(evaluationOf(events).loss).toBeGreaterThan(0);
    model.dispose();
  });

  it('is the same run when it goes on: another factor is refused', async () => {
    const output = place.freshOutput();
    const parts = { output, checkpoint: { everySteps: 2 } };
    await run({ train: 1.25 }, parts);
    const other = smallConfig(place, { duration: { steps: 4 }, ...parts, capacity: { train: 1.5 } });
    const error = await runToEnd(other, smallOptions(place, { existing: 'resume' })).then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(isMoebiusError(error, 'checkpoint') && error.message).toContain(
      'got other settings: capacity.train was 1.25, is 1.5 (restore them, or start a new run)',
    );
  });

  it('tells every fault at once', () => {
    const capacity = { train: -1, evaluate: Number.NaN, key: 'skore', devices: 3, capasity: 1 };
    const faulty = { ...smallConfig(place), capacity } as unknown as TrainConfigInput;
    const message = (value: unknown): string => {
      try {
        parseTrainConfig(value);
        return 'no error';
      } catch (error) {
        return (error as Error).message;
      }
    };
    const told = message(faulty);
    for (const part of [
      'capacity.train: must be',
      'capacity.evaluate: must be',
      'capacity.key: must be one of',
    ]) {
      expect(told).toContain(part);
    }
    expect(told).toMatch(/capacity\.capasity|"capasity"/);
    expect(message({ ...smallConfig(place), capacity: { train: 1, devices: 3 } })).toBe(
      'run configuration: must be a valid configuration, got 1 fault:\n  capacity.devices: must divide model.num_experts 4, got 3 (devices share experts in equal runs)',
    );
  });
});
