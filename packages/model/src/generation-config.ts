/**
 * @file What a model folder recommends for generation: Hugging Face's generation_config.json, key for key.
 *
 * Only what {@link GenerationConfig} lists is read; a key that is absent or null says nothing. All faults of a file
 * are reported at once. Without a file the special tokens are those of config.json.
 */
import path from 'node:path';

import { createFaultList, type FaultList } from './config-faults.ts';
import type { ModelConfig } from './config.ts';
import { readJsonFile } from './read-json-file.ts';

/** Recommendations for generation; an absent key says nothing. Keys are those of generation_config.json. */
export interface GenerationConfig {
  /** Whether to draw; false recommends the most probable token. */
  readonly do_sample?: boolean;
  /** Divides the logits, from 0; 0 recommends the most probable token. */
  readonly temperature?: number;
  /** Only the k most probable tokens; 0 for all. */
  readonly top_k?: number;
  /** Only the most probable tokens that reach this probability, in (0, 1]. */
  readonly top_p?: number;
  /** Only tokens this share as probable as the most probable one, in [0, 1]. */
  readonly min_p?: number;
  /** Above 1 makes tokens that were there before less probable. */
  readonly repetition_penalty?: number;
  /** First token of a text, or null. */
  readonly bos_token_id: number | null;
  /** Tokens that end generation. */
  readonly eos_token_id: number | readonly number[] | null;
  /** Padding token, or null. */
  readonly pad_token_id: number | null;
}

/** Recommendations of a model that has none of its own: the special tokens of its configuration. */
export function defaultGeneration(
  config: Pick<ModelConfig, 'bos_token_id' | 'eos_token_id' | 'pad_token_id'>,
): GenerationConfig {
  const { bos_token_id, eos_token_id, pad_token_id } = config;
  return Object.freeze({ bos_token_id, eos_token_id, pad_token_id });
}

const samplingKeys = [
  'do_sample',
  'temperature',
  'top_k',
  'top_p',
  'min_p',
  'repetition_penalty',
] as const satisfies readonly (keyof GenerationConfig)[];

/** Highest id, as config.json has it. */
const mostTokens = 16_777_216;

/**
 * Validates a parsed generation_config.json.
 *
 * @param value - what `JSON.parse` gave
 * @param subject - how messages call it, for example the file's path
 * @returns a frozen object with only the keys that the file has, and the special tokens
 * @throws `configuration` with all faults, in the message and in `details.faults`
 */
export function parseGenerationConfig(value: unknown, subject = 'generation_config.json'): GenerationConfig {
  const faults = createFaultList(subject, value);
  const eos = faults.raw('eos_token_id');
  const fields = {
    do_sample: isAbsent(faults.raw('do_sample')) ? undefined : faults.boolean('do_sample', false),
    temperature: readNumber(faults, 'temperature', {
      holds: (x) => x >= 0,
      expectation: 'must be a number from 0',
    }),
    top_k: readNumber(faults, 'top_k', {
      holds: (x) => Number.isInteger(x) && x >= 0,
      expectation: 'must be an integer from 0',
    }),
    top_p: readNumber(faults, 'top_p', { holds: (x) => x > 0 && x <= 1, expectation: 'must be in (0, 1]' }),
    min_p: readNumber(faults, 'min_p', { holds: (x) => x >= 0 && x <= 1, expectation: 'must be in [0, 1]' }),
    repetition_penalty: readNumber(faults, 'repetition_penalty', {
      holds: (x) => x > 0,
      expectation: 'must be a number above 0',
    }),
    bos_token_id: faults.optionalInteger('bos_token_id', mostTokens),
    eos_token_id: Array.isArray(eos)
      ? faults.integers('eos_token_id', { max: mostTokens, fallback: [] })
      : faults.optionalInteger('eos_token_id', mostTokens),
    pad_token_id: faults.optionalInteger('pad_token_id', mostTokens),
  };
  faults.throwIfAny();
  const present = Object.entries(fields).filter(([, field]) => field !== undefined);
  return Object.freeze(Object.fromEntries(present)) as unknown as GenerationConfig;
}

interface NumberRule {
  readonly holds: (value: number) => boolean;
  readonly expectation: string;
}

function readNumber(faults: FaultList, key: string, rule: NumberRule): number | undefined {
  const value = faults.raw(key);
  if (isAbsent(value)) return undefined;
  if (typeof value === 'number' && Number.isFinite(value) && rule.holds(value)) return value;
  faults.add(key, rule.expectation, value);
  return undefined;
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null;
}

/**
 * What a model folder recommends.
 *
 * @param folder - may hold generation_config.json
 * @param config - gives special tokens that the file does not name
 * @throws `configuration` listing every fault; `format`, `limit` or `io` on a broken file
 * @example
 * ```ts
 * const { temperature = 1 } = readGenerationConfig('path/to/model', readModelConfig('path/to/model'));
 * ```
 */
export function readGenerationConfig(folder: string, config: ModelConfig): GenerationConfig {
  const file = path.join(folder, 'generation_config.json');
  const value = readJsonFile(file);
  const defaults = defaultGeneration(config);
  if (value === undefined) return defaults;
  const read = parseGenerationConfig(value, file);
  return Object.freeze({
    ...read,
    bos_token_id: read.bos_token_id ?? defaults.bos_token_id,
    eos_token_id: read.eos_token_id ?? defaults.eos_token_id,
    pad_token_id: read.pad_token_id ?? defaults.pad_token_id,
  });
}

/**
 * The generation_config.json that Hugging Face transformers reads.
 *
 * @param generation - the recommendations; only the special tokens: marked as made from config.json
 */
export function generationConfigToJson(generation: GenerationConfig): { readonly [key: string]: unknown } {
  const { bos_token_id, eos_token_id, pad_token_id } = generation;
  const sampling = Object.fromEntries(
    samplingKeys.flatMap((key) => (generation[key] === undefined ? [] : [[key, generation[key]]])),
  );
  const isDerived = Object.keys(sampling).length === 0;
  const tokens = { bos_token_id, eos_token_id, pad_token_id };
  return isDerived ? { _from_model_config: true, ...tokens } : { ...sampling, ...tokens };
}
