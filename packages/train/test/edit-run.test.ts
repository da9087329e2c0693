import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { runSync } from '@moebius/core';
import type { StateUnit } from '@moebius/core';
import type { EditModelOptions } from '@moebius/model/surgery';
import { openStateFile } from '@moebius/safetensors';
import { describe, expect, it } from 'vitest';

import { defineCallback, editRunExperts, modelOfRun, parseTrainConfig } from '../src/index.ts';
import type { EditedRun, TrainConfigInput } from '../src/index.ts';
import { digests, runToEnd, smallConfig, smallOptions, stepsOf, useWorkplace } from './small-run.ts';

const place = useWorkplace();

/** A run of 8 steps that was stopped after 5, with an average beside its weights. */
async function stoppedRun(
  parts: Partial<TrainConfigInput> = {},
): Promise<TrainConfigInput & { output: string }> {
  const output = place.freshOutput();
  const config = smallConfig(place, {
    duration: { steps: 8 },
    ema: { decay: 0.9, startStep: 2 },
    ...parts,
    output,
  });
  const controller = new AbortController();
  const stop = defineCallback({
    name: 'stop',
    onStep: ({ step }) => (step === 5 ? controller.abort() : undefined),
  });
  await runToEnd(config, smallOptions(place, { callbacks: [stop], signal: controller.signal }));
  return { ...config, output };
}

async function editRun(
  run: TrainConfigInput & { output: string },
  edit: EditModelOptions,
): Promise<EditedRun & { to: string }> {
  const to = place.freshOutput();
  const config = parseTrainConfig(run);
  const done = await editRunExperts({
    from: run.output,
    to,
    config,
    model: modelOfRun(run.output, config),
    edit,
  });
  return { ...done, to };
}

function readUnits(output: string): { readonly [id: string]: StateUnit } {
  using reader = openStateFile(join(output, 'checkpoint', 'state.safetensors'));
  return Object.fromEntries(runSync(reader.units()).map(({ id }) => [id, runSync(reader.read(id))]));
}

/** Tensors of an expert by what follows its number. */
function tensorsOf(unit: StateUnit | undefined): { readonly [rest: string]: Uint8Array } {
  return Object.fromEntries(
    Object.entries(unit?.tensors ?? {}).map(([name, { bytes }]) => [
      name.replace(/^.*\.experts\.\d+\./, ''),
      bytes,
    ]),
  );
}

function floats(unit: StateUnit | undefined, name: string): Float32Array {
  return new Float32Array(unit?.tensors[name]?.bytes.slice().buffer ?? new ArrayBuffer(0));
}

const router = 'model.layers.0.mlp.gate.weight';

describe('a run whose experts are edited', () => {
  it('T5: experts that stay keep every bit of weights and moments, removed ones leave none, added ones have none, and the run goes on', async () => {
    const run = await stoppedRun({ checkpoint: { everySteps: 4 } });
    const before = readUnits(run.output);
    const { config, to, stateful } = await editRun(run, { remove: [1], add: [{ copyOf: 0 }, 'fresh'] });
    const after = readUnits(to);
    for (const prefix of ['', 'average:']) {
      for (const layer of [0, 1]) {
        for (const [now, was] of [
          [0, 0],
          [1, 2],
          [2, 3],
        ]) {
          const unit = after[`${prefix}layers.${layer}.experts.${now}`];
          const old = before[`${prefix}layers.${layer}.experts.${was}`];
          expect(tensorsOf(unit)).toEqual(tensorsOf(old));
          expect(unit?.version).toBe(old?.version);
        }
        for (const added of [3, 4]) {
          const names = Object.keys(tensorsOf(after[`${prefix}layers.${layer}.experts.${added}`]));
          expect(names).toEqual(['gate_proj.weight', 'up_proj.weight', 'down_proj.weight']);
        }
        expect(after[`${prefix}layers.${layer}.experts.5`]).toBeUndefined();
      }
    }
    expect(stateful).toEqual({ before: stateful.before, after: stateful.before - 2 * 3 });
    for (const [unit, name] of [
      ['embedding', 'model.embed_tokens.weight'],
      ['layers.0', 'model.layers.0.self_attn.q_proj.weight'],
    ] as const) {
      for (const slot of ['', '#adamw', '#adamw.first', '#adamw.second']) {
        expect(after[unit]?.tensors[`${name}${slot}`]).toEqual(before[unit]?.tensors[`${name}${slot}`]);
      }
    }
    for (const slot of ['', '#adamw.first', '#adamw.second']) {
      const [was, is] = [
        floats(before['layers.0'], `${router}${slot}`),
        floats(after['layers.0'], `${router}${slot}`),
      ];
      expect(is.subarray(0, 96)).toEqual(Float32Array.of(...was.subarray(0, 32), ...was.subarray(64)));
      expect(is).toHaveLength(5 * 32);
      if (slot !== '') expect(is.subarray(96).every((value) => value === 0)).toBe(true);
    }
    const events = await runToEnd({ ...config }, smallOptions(place, { existing: 'resume' }));
    expect(stepsOf(events).map(({ step }) => step)).toEqual([6, 7, 8]);
    expect(events.at(-1)).toMatchObject({ kind: 'end', reason: 'finished' });
    const saved = JSON.parse(readFileSync(join(to, 'model', 'config.json'), 'utf8')) as {
      num_experts: number;
    };
    expect(saved.num_experts).toBe(5);
    const trained = readUnits(to)['layers.0.experts.4'];
    expect(Object.keys(tensorsOf(trained))).toContain('up_proj.weight#adamw.first');
  });

  it('T5: an edit of nothing goes on as the run would have, bit for bit', async () => {
    const run = await stoppedRun();
    const { config, to } = await editRun(run, {});
    expect(readUnits(to)).toEqual(readUnits(run.output));
    await runToEnd({ ...config }, smallOptions(place, { existing: 'resume' }));
    await runToEnd(run, smallOptions(place, { existing: 'resume' }));
    expect(digests(join(to, 'model'))).toEqual(digests(join(run.output, 'model')));
  });

  it('keeps state of other optimizers, and needs a checkpoint', async () => {
    const run = await stoppedRun({
      optimizer: { kind: 'sgd', learningRate: 1e-2, momentum: 0.9 },
      ema: null,
    });
    const { to, config } = await editRun(run, { remove: [0], topK: 1 });
    const [before, after] = [readUnits(run.output), readUnits(to)];
    expect(tensorsOf(after['layers.1.experts.0'])).toEqual(tensorsOf(before['layers.1.experts.1']));
    expect(config).toMatchObject({
      output: to,
      initFrom: null,
      model: { num_experts: 3, num_experts_per_tok: 1 },
    });
    const nowhere = place.freshOutput();
    await expect(editRun({ ...run, output: nowhere }, {})).rejects.toThrow(
      `edit: expected a checkpoint at ${join(nowhere, 'checkpoint', 'state.safetensors')}, got none (edit the model folder instead)`,
    );
  });
});
