/**
 * @file The schema of a run configuration: kinds, bounds and defaults. What each field means is said in
 * `train-config.ts`.
 */
import { defineConfig, schemaVersion, toJsonSchema, z } from '@moebius/core';
import type { ConfigDefinition } from '@moebius/core';

import { corpusNames } from '../data/corpora.ts';
import { isKnownPreset, isPattern, presetNames } from './parameter-patterns.ts';
import { describeTrainConfigSchema } from './train-config-json-schema.ts';
import type { TrainConfig } from './train-config.ts';

const path = z.string().min(1);
const fraction = z.number().min(0).max(1);
const count = z.int().min(1);

const textSource = z.union([
  z.strictObject({ corpus: z.enum(corpusNames as ['sotu', 'moby-dick']) }),
  z.strictObject({ path, field: z.string().min(1).optional() }),
]);

const replay = z.strictObject({
  source: textSource,
  share: z.number().gt(0).lt(1).default(0.25),
});

const data = z.strictObject({
  training: textSource.default({ corpus: 'sotu' }),
  heldOut: textSource.optional(),
  replay: replay.optional(),
  heldOutFraction: z.number().gt(0).lt(1).default(0.1),
  splitSeed: z.int().default(0),
});

const tokenizer = z.union([
  z.strictObject({ vocabularySize: count.default(4096), minimumCount: count.default(2) }),
  z.strictObject({ path }),
]);

const batch = z.strictObject({
  sequences: count.default(8),
  length: z.int().min(2).default(256),
  accumulation: count.default(1),
});

const duration = z.union([
  z.strictObject({ steps: count }),
  z.strictObject({ tokens: count }),
  z.strictObject({ minutes: z.number().gt(0) }),
]);

const pattern = z
  .string()
  .refine(isPattern, 'must be a regular expression')
  .refine(isKnownPreset, `must be a regular expression or one of ${presetNames.join(', ')}`);

const parameterGroup = z.strictObject({
  pattern,
  learningRateScale: z.number().gt(0).optional(),
  weightDecay: z.number().min(0).optional(),
  frozen: z.boolean().optional(),
});

const optimizer = z.strictObject({
  kind: z.string().min(1).default('adamw'),
  learningRate: z.number().gt(0).default(1e-3),
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.95),
  epsilon: z.number().gt(0).default(1e-8),
  momentum: z.number().min(0).lt(1).optional(),
  nesterov: z.boolean().optional(),
  decay: z.enum(['decoupled', 'coupled']).optional(),
  scale: z.enum(['match-rms', 'original']).optional(),
  adamWFor: z.array(pattern).optional(),
  settings: z.record(z.string(), z.unknown()).optional(),
  weightDecay: z.number().min(0).default(0.1),
  noDecay: z.array(pattern).default(['norm']),
  groups: z.array(parameterGroup).default([]),
  layerDecay: z.number().gt(0).max(1).default(1),
  freeze: z.array(pattern).default([]),
  clipNorm: z.number().gt(0).nullable().default(1),
});

const schedule = z.strictObject({
  kind: z.enum(['cosine', 'linear', 'constant', 'wsd']).default('cosine'),
  warmupFraction: fraction.default(0.02),
  warmupSteps: z.int().min(0).optional(),
  floor: fraction.default(0.1),
  decayFraction: fraction.default(0.2),
});

const coefficient = z.number().min(0);
const namedLoss = z.looseObject({ coefficient });

const losses = z.strictObject({
  loadBalance: z.number().min(0).default(0.01),
  pooling: z.enum(['pooled', 'per-layer', 'per-sequence']).default('per-layer'),
  divideByTopK: z.boolean().default(true),
  over: z.enum(['step', 'micro-batch']).default('step'),
  gateZ: z.number().min(0).default(0.001),
  logitZ: z.number().min(0).default(0),
  balance: z.record(z.string().min(1), z.union([coefficient, namedLoss])).optional(),
});

const evaluation = z.strictObject({
  everySteps: count.nullable().default(200),
  tokens: count.default(32_768),
  finalTokens: count.nullable().default(null),
});

const checkpoint = z.strictObject({
  everySteps: count.nullable().default(null),
});

const ema = z.strictObject({
  decay: z.number().min(0).lt(1),
  startStep: z.int().min(0).default(0),
});

const earlyStop = z.strictObject({
  patience: count,
  minimumGain: z.number().min(0).default(0),
});

const numerics = z.strictObject({
  onNonFinite: z.enum(['stop', 'skip']).default('stop'),
  maximumSkips: count.default(10),
});

const capacity = z.strictObject({
  train: z.number().min(0).nullable().default(null),
  evaluate: z.number().min(0).nullable().default(null),
  method: z.enum(['token', 'expanded', 'top-m', 'device', 'reroute']).default('token'),
  key: z.enum(['score', 'order', 'reverse', 'random']).default('score'),
  scope: z.enum(['global', 'rank', 'sequence']).default('global'),
  devices: count.default(1),
  weights: z.enum(['router', 'none', 'primary', 'kept']).default('router'),
});

const engine = z.strictObject({
  name: z.enum(['auto', 'native', 'wasm', 'cpu']).default('auto'),
  threads: count.optional(),
});

const schema: z.ZodType<TrainConfig> = z.strictObject({
  $schema: z.string().optional(),
  schemaVersion: schemaVersion(1),
  name: z.string().min(1).default('run'),
  model: z.union([path, z.looseObject({})]),
  initFrom: path.nullable().default(null),
  data: data.prefault({}),
  tokenizer: tokenizer.default({ vocabularySize: 4096, minimumCount: 2 }),
  batch: batch.prefault({}),
  duration,
  optimizer: optimizer.prefault({}),
  schedule: schedule.prefault({}),
  losses: losses.prefault({}),
  evaluation: evaluation.prefault({}),
  checkpoint: checkpoint.prefault({}),
  ema: ema.nullable().default(null),
  earlyStop: earlyStop.nullable().default(null),
  numerics: numerics.prefault({}),
  engine: engine.prefault({}),
  seed: z.int().default(0),
  plugins: z.array(path).optional(),
  executor: z.string().min(1).optional(),
  tensorboard: z.union([z.boolean(), path]).default(false),
  router: z.looseObject({ name: z.string().min(1) }).optional(),
  capacity: capacity.prefault({}),
  expertKind: z.string().min(1).optional(),
  output: path.nullable().default(null),
});

/** The run configuration's schema, for editors (`toJsonSchema`) and for `parse`. */
export const trainConfigDefinition: ConfigDefinition<TrainConfig> = Object.freeze({
  ...defineConfig({ name: 'run configuration', schema }),
  toJsonSchema: () => describeTrainConfigSchema(toJsonSchema(schema)),
});
