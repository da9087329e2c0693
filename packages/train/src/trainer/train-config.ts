/**
 * @file The configuration of a run: plain JSON, versioned, checked as a whole before anything is made.
 */
import { configurationError, defineConfig, isMoebiusError, schemaVersion, z } from '@moebius/core';
import type { ConfigDefinition, Fault } from '@moebius/core';
import { parseModelConfig } from '@moebius/model';
import type { ModelConfig } from '@moebius/model';

import { corpusNames } from '../data/corpora.ts';

const path = z.string().min(1);
const fraction = z.number().min(0).max(1);
const count = z.int().min(1);

const textSource = z.union([
  z.strictObject({ corpus: z.enum(corpusNames as ['sotu', 'moby-dick']) }),
  z.strictObject({ path, field: z.string().min(1).optional() }),
]);

const data = z.strictObject({
  /** Text to train on; also split for held-out text unless `heldOut` is given. */
  training: textSource.default({ corpus: 'sotu' }),
  /** Held-out text of its own. */
  heldOut: textSource.optional(),
  /** Share of documents held out of `training`. */
  heldOutFraction: z.number().gt(0).lt(1).default(0.1),
  /** Which documents are held out. */
  splitSeed: z.int().default(0),
});

const tokenizer = z.union([
  z.strictObject({ vocabularySize: count.default(4096), minimumCount: count.default(2) }),
  z.strictObject({ path }),
]);

const batch = z.strictObject({
  /** B: sequences of one micro-batch. */
  sequences: count.default(8),
  /** S: tokens of a sequence. */
  length: z.int().min(2).default(256),
  /** Micro-batches of one step. */
  accumulation: count.default(1),
});

const duration = z.union([
  z.strictObject({ steps: count }),
  z.strictObject({ tokens: count }),
  z.strictObject({ minutes: z.number().gt(0) }),
]);

const optimizer = z.strictObject({
  learningRate: z.number().gt(0).default(1e-3),
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.95),
  epsilon: z.number().gt(0).default(1e-8),
  /** Decoupled decay. */
  weightDecay: z.number().min(0).default(0.1),
  /** Parameters whose name matches one of these regular expressions are not decayed. */
  noDecay: z.array(z.string().refine(isPattern, 'must be a regular expression')).default(['norm']),
  /** Largest global gradient norm; null does not clip. */
  clipNorm: z.number().gt(0).nullable().default(1),
});

const schedule = z.strictObject({
  kind: z.enum(['cosine', 'linear', 'constant', 'wsd']).default('cosine'),
  /** Share of the run in which the rate rises; `warmupSteps` wins where given. */
  warmupFraction: fraction.default(0.02),
  warmupSteps: z.int().min(0).optional(),
  /** Last rate over the peak. */
  floor: fraction.default(0.1),
  /** `wsd`: share of the run, at its end, in which the rate falls. */
  decayFraction: fraction.default(0.2),
});

const losses = z.strictObject({
  /** Coefficient of the load-balance loss. */
  loadBalance: z.number().min(0).default(0.01),
  /** Where balance is asked for: over all layers at once (Hugging Face), in each layer, or in each sequence. */
  pooling: z.enum(['pooled', 'per-layer', 'per-sequence']).default('per-layer'),
  /** Divide by K, so that perfect balance is 1 for every K. */
  divideByTopK: z.boolean().default(true),
  /** With accumulation: balance the whole step (one more forward pass), or each micro-batch by itself. */
  over: z.enum(['step', 'micro-batch']).default('step'),
  /** Coefficient of the z-loss on the gates' logits. */
  gateZ: z.number().min(0).default(0.001),
  /** Coefficient of the z-loss on the output logits. */
  logitZ: z.number().min(0).default(0),
});

const evaluation = z.strictObject({
  /** Steps between evaluations; null evaluates at the end only. */
  everySteps: count.nullable().default(200),
  /** Held-out tokens measured in between, in whole documents. */
  tokens: count.default(32_768),
  /** Held-out tokens of the last evaluation; null measures all documents. */
  finalTokens: count.nullable().default(null),
});

const checkpoint = z.strictObject({
  /** Steps between checkpoints; null saves one only when the run is stopped early. */
  everySteps: count.nullable().default(null),
});

const engine = z.strictObject({
  name: z.enum(['auto', 'native', 'wasm', 'cpu']).default('auto'),
  /** Threads inside one operation; default all cores. */
  threads: count.optional(),
});

const schema = z.strictObject({
  schemaVersion: schemaVersion(1),
  /** Names the run in messages and files. */
  name: z.string().min(1).default('run'),
  /**
   * The model's config.json, without `vocab_size` when the tokenizer decides it, or the path of a model folder whose
   * config.json is meant.
   */
  model: z.union([path, z.looseObject({})]),
  data: data.prefault({}),
  tokenizer: tokenizer.default({ vocabularySize: 4096, minimumCount: 2 }),
  batch: batch.prefault({}),
  duration,
  optimizer: optimizer.prefault({}),
  schedule: schedule.prefault({}),
  losses: losses.prefault({}),
  evaluation: evaluation.prefault({}),
  checkpoint: checkpoint.prefault({}),
  engine: engine.prefault({}),
  /** Of initial weights and of the order of the data. */
  seed: z.int().default(0),
  /** Folder for metrics, checkpoints and the trained model; null keeps nothing on disk. */
  output: path.nullable().default(null),
});

function isPattern(text: string): boolean {
  try {
    return new RegExp(text, 'u') !== undefined;
  } catch {
    return false;
  }
}

/** A checked run configuration with every default filled. */
export type TrainConfig = z.output<typeof schema>;

/** What may be written: defaults may be left out. */
export type TrainConfigInput = z.input<typeof schema>;

/** The run configuration's schema, for editors (`toJsonSchema`) and for `parse`. */
export const trainConfigDefinition: ConfigDefinition<TrainConfig> = defineConfig({
  name: 'run configuration',
  schema: schema as z.ZodType<TrainConfig>,
});

/** A vocabulary that stands in while the tokenizer's is not known yet. */
const provisionalVocabulary = 65_536;

/**
 * Checks a run configuration, the model's included, and fills defaults.
 *
 * @param value - parsed JSON
 * @param subject - what messages call it
 * @throws `configuration` with every fault at once
 * @example
 * ```ts
 * const config = parseTrainConfig({
 *   model: {
 *     model_type: 'qwen3_moe', hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2,
 *     moe_intermediate_size: 32, num_experts: 8, num_experts_per_tok: 2,
 *   },
 *   duration: { steps: 100 },
 * });
 * ```
 */
export function parseTrainConfig(value: unknown, subject: string = 'run configuration'): TrainConfig {
  const faults: Fault[] = [];
  let config: TrainConfig | undefined;
  try {
    config = trainConfigDefinition.parse(value, subject);
  } catch (error) {
    faults.push(...faultsIn(error));
  }
  const model = (value as { model?: unknown } | null | undefined)?.model;
  if (typeof model === 'object' && model !== null && !Array.isArray(model))
    faults.push(...modelFaults(model));
  if (config !== undefined) faults.push(...relationFaults(config));
  if (faults.length > 0 || config === undefined) throw configurationError(subject, faults);
  return config;
}

/**
 * The model's configuration with the tokenizer's vocabulary.
 *
 * @param model - the `model` object of a run, or the content of a config.json
 * @throws `configuration` when it names a vocabulary smaller than the tokenizer's
 */
export function resolveModelConfig(
  model: { readonly [key: string]: unknown },
  tokens: { readonly vocabularySize: number; readonly endOfTextId: number },
): ModelConfig {
  const { vocabularySize, endOfTextId } = tokens;
  const config = parseModelConfig(
    { vocab_size: vocabularySize, bos_token_id: endOfTextId, eos_token_id: endOfTextId, ...model },
    'model',
  );
  if (config.vocab_size >= vocabularySize) return config;
  throw configurationError('model', [
    {
      path: 'vocab_size',
      expectation: `must be at least the tokenizer's ${vocabularySize}`,
      got: String(config.vocab_size),
      remedy: 'leave it out, then the tokenizer decides',
    },
  ]);
}

function modelFaults(model: object): Fault[] {
  try {
    parseModelConfig({ vocab_size: provisionalVocabulary, ...model }, 'model');
    return [];
  } catch (error) {
    return faultsIn(error).map((fault) => ({
      ...fault,
      path: fault.path === '' ? 'model' : `model.${fault.path}`,
    }));
  }
}

function relationFaults(config: TrainConfig): Fault[] {
  const faults: Fault[] = [];
  const { batch: sizes, model } = config;
  const positions = typeof model === 'string' ? undefined : model['max_position_embeddings'];
  if (typeof positions === 'number' && positions < sizes.length) {
    faults.push({
      path: 'batch.length',
      expectation: `must be at most model.max_position_embeddings ${positions}`,
      got: String(sizes.length),
      remedy: 'shorten the sequence, or raise max_position_embeddings',
    });
  }
  if (config.schedule.kind === 'wsd' && config.schedule.warmupFraction + config.schedule.decayFraction > 1) {
    faults.push({
      path: 'schedule.decayFraction',
      expectation: `must leave room beside warmupFraction ${config.schedule.warmupFraction}: their sum at most 1`,
      got: String(config.schedule.decayFraction),
    });
  }
  return faults;
}

function faultsIn(error: unknown): Fault[] {
  if (!isMoebiusError(error, 'configuration')) throw error;
  const { faults } = error.details as { faults?: readonly Fault[] };
  if (faults === undefined) throw error;
  return [...faults];
}
