/** @file A run small enough for a test, on real text, and what is needed around it. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createManualClock } from '@moebius/core';
import { createEngine } from '@moebius/tensor';
import { afterAll, beforeAll } from 'vitest';

import type { StepEvent, TrainConfigInput, TrainEvent, Trainer, TrainerOptions } from '../src/index.ts';
import { createTrainer } from '../src/index.ts';

/** A temporary folder with the sample texts as eight documents, and a cache. */
export interface Workplace {
  readonly folder: string;
  readonly texts: string;
  readonly cacheFolder: string;
  /** A folder that does not exist yet. */
  freshOutput(): string;
}

/** A workplace for the tests of a file, with a running engine; it is removed after them. */
export function useWorkplace(): Workplace {
  const folder = mkdtempSync(join(tmpdir(), 'moebius-train-'));
  const texts = join(folder, 'texts');
  const read = (name: string): string =>
    readFileSync(join(import.meta.dirname, '__fixtures__', name), 'utf8');
  const whole = read('lincoln-1862.txt') + read('moby-dick-1.txt');
  const size = Math.ceil(whole.length / 8);
  mkdirSync(texts);
  for (let part = 0; part < 8; part++) {
    writeFileSync(join(texts, `part-${part}.txt`), whole.slice(part * size, (part + 1) * size));
  }
  beforeAll(async () => {
    await createEngine();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  let outputs = 0;
  return {
    folder,
    texts,
    cacheFolder: join(folder, 'cache'),
    freshOutput: () => join(folder, `output-${outputs++}`),
  };
}

/** A configuration that trains in seconds; parts may be replaced. */
export function smallConfig(place: Workplace, parts: Partial<TrainConfigInput> = {}): TrainConfigInput {
  return {
    model: {
      model_type: 'qwen3_moe',
      hidden_size: 32,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 8,
      moe_intermediate_size: 32,
      num_experts: 4,
      num_experts_per_tok: 2,
      norm_topk_prob: true,
      max_position_embeddings: 64,
    },
    data: { training: { path: place.texts }, heldOutFraction: 0.2 },
    tokenizer: { vocabularySize: 400 },
    batch: { sequences: 4, length: 32 },
    duration: { steps: 6 },
    optimizer: { learningRate: 1e-2 },
    evaluation: { everySteps: null },
    ...parts,
  };
}

/** Options with a clock that stands still, so that two runs tell the same. */
export function smallOptions(place: Workplace, parts: Partial<TrainerOptions> = {}): TrainerOptions {
  return { clock: createManualClock(), cacheFolder: place.cacheFolder, ...parts };
}

/** Runs to the end and gives every event. The caller disposes the trainer. */
export async function collect(trainer: Trainer): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  for await (const event of trainer.run()) events.push(event);
  return events;
}

/** Runs, disposes, and gives every event. */
export async function runToEnd(config: TrainConfigInput, options: TrainerOptions): Promise<TrainEvent[]> {
  const trainer = createTrainer(config, options);
  try {
    return await collect(trainer);
  } finally {
    trainer.dispose();
  }
}

/** The steps among events. */
export function stepsOf(events: readonly TrainEvent[]): StepEvent[] {
  return events.filter((event) => event.kind === 'step');
}

/** SHA-256 of every file below a folder, by name. */
export function digests(folder: string): { [name: string]: string } {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  const files = names.map((entry) => join(entry.parentPath, entry.name)).toSorted();
  return Object.fromEntries(
    files.map((file) => [
      file.slice(folder.length),
      createHash('sha256').update(readFileSync(file)).digest('hex'),
    ]),
  );
}
