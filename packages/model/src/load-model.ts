/**
 * @file Reads a model from a folder that Hugging Face transformers wrote, or we.
 *
 * What the file holds is compared with what the configuration asks for before a tensor is read: a silent miss would
 * leave random experts. Experts may be stored one by one (published files) or fused, as transformers 5 keeps them in
 * memory: `experts.gate_up_proj` `[E, 2F, D]` (gate rows first) and `experts.down_proj` `[E, D, F]`.
 */
import path from 'node:path';

import { isMoebiusError, MoebiusError, type Rng } from '@moebius/core';
import { openSharded, type TensorReader } from '@moebius/safetensors';
import { createParameterStore, type ParameterInit } from '@moebius/tensor';

import { type ModelConfig, parseModelConfig } from './config.ts';
import { type GenerationConfig, readGenerationConfig } from './generation-config.ts';
import { createModel, type DecoderModel, type ModelOptions } from './decoder.ts';
import { initialValues } from './initialise-parameters.ts';
import { type ModelParts, type PartsChoice, resolveParts } from './model-parts.ts';
import { readJsonFile } from './read-json-file.ts';
import { openUnchanged, recoverModelFolder } from './steady-folder.ts';
import { findWeights, type WeightPlan, type WeightSource } from './weight-plan.ts';
import { firstNotFinite, transposeMatrix } from './transpose.kernel.ts';

/** How {@link loadModel} reads. */
export interface LoadModelOptions extends Omit<
  ModelOptions,
  'config' | 'parameters' | 'buffers' | 'routerState'
> {
  /** What to do about parameters the file lacks: refuse, or start them at random from this generator. Default refuse. */
  readonly missing?: 'refuse' | { /** Forked by id. */ readonly initialise: Rng };
  /** What to do about tensors the model has no place for. Default refuse. */
  readonly unused?: 'refuse' | 'ignore';
  /** Refuse NaN and infinite weights. Default true; costs one pass over the weights. */
  readonly checkFinite?: boolean;
}

/**
 * Reads the configuration of a model folder.
 *
 * @param folder - holds config.json
 * @throws `io` when there is none; `format` when it is not JSON; `configuration` listing every fault
 */
export function readModelConfig(folder: string): ModelConfig {
  recoverModelFolder(folder);
  const file = path.join(folder, 'config.json');
  const value = readJsonFile(file);
  if (value !== undefined) return parseModelConfig(value, file);
  throw new MoebiusError({
    code: 'io',
    message: `${folder}: must hold a readable config.json, got ENOENT (give a model folder)`,
    details: { folder },
  });
}

/**
 * Reads a model.
 *
 * @param folder - config.json and model.safetensors, or shards with an index; perhaps generation_config.json
 * @param options - what to tolerate, and who runs the experts
 * @returns a model that owns its parameters; dispose it
 * @throws `configuration` on config.json, also when it names a router or a kind of expert that is not given; `checkpoint` when tensors are missing, unused, of another shape or type, or
 * not finite; `format`, `limit` or `io` on broken files
 * @example
 * ```ts
 * const model = await loadModel('Qwen3-30B-A3B');
 * ```
 */
export async function loadModel(folder: string, options: LoadModelOptions = {}): Promise<DecoderModel> {
  const { missing = 'refuse', unused = 'refuse', checkFinite = true, ...wiring } = options;
  const { config, generation, parts, reader } = openUnchanged(folder, () => openFiles(folder, wiring));
  try {
    const plan = findWeights(config, reader, parts);
    assertComplete(plan, { folder, missing, unused });
    const absent = plan.missing.filter(({ role }) => role !== 'buffer');
    const initial: { [id: string]: ParameterInit } =
      missing === 'refuse' ? {} : initialValues(absent, config, missing.initialise);
    const buffers: { [id: string]: Float32Array } = {};
    for (const source of plan.sources) {
      const weight = await readWeight(source, reader, { folder, checkFinite });
      if (source.description.role === 'buffer') buffers[source.id] = Float32Array.from(weight.data);
      else initial[source.id] = weight;
    }
    const parameters = createParameterStore(initial);
    return createModel({ generation, ...wiring, config, parameters, buffers });
  } finally {
    reader.close();
  }
}

/** The parts that config.json names, or what is missing, with the folder's name. */
function partsOf(folder: string, config: ModelConfig, choice: PartsChoice): ModelParts {
  try {
    return resolveParts(config, choice);
  } catch (error) {
    if (!isMoebiusError(error, 'configuration')) throw error;
    throw new MoebiusError({
      code: 'configuration',
      message: `${folder}: ${error.message}`,
      details: { ...error.details, folder },
      cause: error,
    });
  }
}

/** What is read first, and what is open. */
export interface OpenedFiles {
  readonly config: ModelConfig;
  readonly generation: GenerationConfig;
  readonly parts: ModelParts;
  readonly reader: TensorReader;
  close(): void;
}

/** Opens a model folder; close what it returns. */
export function openFiles(folder: string, choice: PartsChoice): OpenedFiles {
  const config = readModelConfig(folder);
  const generation = readGenerationConfig(folder, config);
  const parts = partsOf(folder, config, choice);
  const reader = openSharded(folder);
  return { config, generation, parts, reader, close: () => reader.close() };
}

interface Tolerance {
  readonly folder: string;
  readonly missing: NonNullable<LoadModelOptions['missing']>;
  readonly unused: NonNullable<LoadModelOptions['unused']>;
}

/** Every fault of the file at once. */
export function assertComplete(plan: WeightPlan, tolerance: Tolerance): void {
  const faults = [...plan.faults];
  const missing = plan.missing.map(({ id }) => id);
  if (missing.length > 0 && tolerance.missing === 'refuse') {
    faults.push(
      `missing ${missing.length}: ${some(missing)} (pass missing: { initialise: rng } to start them at random)`,
    );
  }
  if (plan.unused.length > 0 && tolerance.unused === 'refuse') {
    faults.push(
      `unused ${plan.unused.length}: ${some(plan.unused)} (pass unused: 'ignore' to leave them out)`,
    );
  }
  if (faults.length === 0) return;
  throw new MoebiusError({
    code: 'checkpoint',
    message: `${tolerance.folder}: tensors must be those of config.json, got ${faults.join('; ')}`,
    details: {
      folder: tolerance.folder,
      faults,
      missing: missing.slice(0, 20),
      unused: plan.unused.slice(0, 20),
    },
  });
}

function some(names: readonly string[]): string {
  return names.slice(0, 3).join(', ') + (names.length > 3 ? ', …' : '');
}

type HostInit = Extract<ParameterInit, { readonly data: unknown }>;

async function readWeight(
  source: WeightSource,
  reader: TensorReader,
  options: { readonly folder: string; readonly checkFinite: boolean },
): Promise<HostInit> {
  const { name, rows } = source;
  const value = rows === null ? await reader.readAsync(name) : await reader.readSliceAsync(name, rows);
  const { shape, unit } = source.description;
  return { shape, unit, data: placeWeight(source, value.data as Float32Array, options) };
}

/** What was read of a file as it lies in memory: the part that belongs to the parameter, turned where the file has it turned. */
export function placeWeight(
  { part, description }: WeightSource,
  whole: Float32Array,
  options: { readonly folder: string; readonly checkFinite: boolean },
): Float32Array {
  const { shape, transposed, id } = description;
  const count = shape.reduce((size, axis) => size * axis, 1);
  const stored = whole.length === count ? whole : whole.slice(part * count, (part + 1) * count);
  const bad = options.checkFinite ? firstNotFinite(stored) : -1;
  if (bad >= 0) {
    throw new MoebiusError({
      code: 'checkpoint',
      message: `${options.folder}: ${id} must be finite, got ${stored[bad]} at ${bad} (the file is damaged, or pass checkFinite: false)`,
      details: { folder: options.folder, id, at: bad },
    });
  }
  const [rowCount = 0, columns = 0] = shape;
  return transposed ? transposeMatrix(stored, columns, rowCount) : stored;
}
