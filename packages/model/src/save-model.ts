/**
 * @file Writes a model as a folder that Hugging Face transformers opens.
 *
 * Over a model with the same configuration only the weights change, and they do so by one rename: a reader sees the
 * old model or the new one at every moment. Another model's folder is made beside its place and moved into it. Files in
 * an existing model folder that are not the model's (a tokenizer, a card) stay.
 */
import fs from 'node:fs';
import path from 'node:path';

import { type DType, MoebiusError } from '@moebius/core';
import { removeLeftovers, type TensorSource, writeShardedSafetensors } from '@moebius/safetensors';
import { readHostSync } from '@moebius/tensor';

import { type ModelConfig, modelConfigToJson } from './config.ts';
import type { DecoderModel } from './decoder.ts';
import { describeTensors, fileShape, type ParameterDescription } from './describe-parameters.ts';
import { defaultGeneration, type GenerationConfig, generationConfigToJson } from './generation-config.ts';
import { type ModelParts, resolveParts } from './model-parts.ts';
import { removeWorkshops, replaceFolder } from './replace-folder.ts';
import { recoverModelFolder } from './steady-folder.ts';
import { transposeMatrix } from './transpose.kernel.ts';

/** How weights are stored. */
export type StoredDType = 'float32' | 'bfloat16' | 'float16';

const storedTypes: { readonly [K in StoredDType]: DType } = {
  float32: 'F32',
  bfloat16: 'BF16',
  float16: 'F16',
};

/** How {@link saveModel} writes. */
export interface SaveModelOptions {
  /** Stored element type; bfloat16 and float16 round. Default float32. */
  readonly dtype?: StoredDType;
  /** Most bytes of tensors in one file. Default 5 GB, as Hugging Face has it. */
  readonly maxShardBytes?: number;
  /** What generation_config.json says. Default: what the model was loaded or made with. */
  readonly generation?: GenerationConfig;
  /** Other files by plain name, for example `tokenizer.json`. */
  readonly files?: { readonly [name: string]: string | Uint8Array };
}

/** What {@link saveModel} reads of a model. */
export type SavableModel = Pick<DecoderModel, 'config' | 'parameters'> &
  Partial<Pick<DecoderModel, 'generation' | 'parts' | 'routerState'>>;

/** What was written. */
export interface SavedModel {
  /** The folder. */
  readonly folder: string;
  /** Tensor files, in order. */
  readonly files: readonly string[];
  /** Bytes of all tensors. */
  readonly totalBytes: number;
}

/**
 * Writes config.json, generation_config.json and the weights, under Hugging Face's per-expert names.
 *
 * @param folder - new, empty, or a model folder, which is replaced
 * @param model - borrowed
 * @param options - element type, shard size, other files
 * @throws `configuration` when the folder holds something else; `io` when the disk fails: the old folder stands
 * @example
 * ```ts
 * const model = await loadModel('path/to/model');
 * saveModel('path/to/copy', model, { dtype: 'bfloat16', files: { 'tokenizer.json': '{}' } });
 * ```
 */
export function saveModel(folder: string, model: SavableModel, options: SaveModelOptions = {}): SavedModel {
  const { config, parameters, routerState, parts = resolveParts(config) } = model;
  const values: WritableValues = {
    config,
    parts,
    generation: model.generation ?? defaultGeneration(config),
    read: (id) => readHostSync(parameters.read(id)) as Float32Array,
    buffers: routerState?.list() ?? [],
  };
  return writeValues(folder, values, options);
}

/** A model's numbers, one parameter at a time. */
export interface WritableValues {
  readonly config: ModelConfig;
  readonly parts: ModelParts;
  readonly generation: GenerationConfig;
  /** Values of a parameter as they lie in memory, borrowed. */
  read(id: string): Float32Array;
  /** What routers keep beside trained tensors. */
  readonly buffers: readonly { readonly description: ParameterDescription; readonly values: Float32Array }[];
}

/** {@link saveModel} of numbers that need not be in a parameter store: each is asked for when its turn comes. */
export function writeValues(
  folder: string,
  model: WritableValues,
  options: SaveModelOptions = {},
): SavedModel {
  const { dtype = 'float32', files = {}, maxShardBytes } = options;
  const target = fs.existsSync(folder) ? fs.realpathSync(folder) : path.resolve(folder);
  assertFileNames(files);
  const { generation = model.generation } = options;
  const written = {
    'config.json': `${JSON.stringify(modelConfigToJson(model.config, dtype), null, 2)}\n`,
    'generation_config.json': `${JSON.stringify(generationConfigToJson(generation), null, 2)}\n`,
    ...files,
  };
  const writeWeights = (into: string): SavedModel => {
    const result = writeShardedSafetensors(into, listTensors(model, storedTypes[dtype]), {
      metadata: { format: 'pt' },
      ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
    });
    return { folder: target, files: result.files, totalBytes: result.totalBytes };
  };
  try {
    fs.mkdirSync(path.dirname(target), { recursive: true });
    recoverModelFolder(target);
    removeWorkshops(target);
    assertReplaceable(target);
    if (holdsAll(target, written)) return replaceWeights(target, writeWeights);
    return replaceFolder(target, (stage) => {
      const saved = writeWeights(stage);
      for (const [name, content] of Object.entries(written)) writeDurably(path.join(stage, name), content);
      carryOver(target, stage, Object.keys(written));
      return saved;
    });
  } catch (error) {
    throw asIoError(target, error);
  }
}

/** Whether a folder has these very files, so that only its weights differ from the model that is saved. */
function holdsAll(target: string, files: { readonly [name: string]: string | Uint8Array }): boolean {
  return Object.entries(files).every(([name, content]) => {
    const file = path.join(target, name);
    return fs.existsSync(file) && fs.readFileSync(file).equals(Buffer.from(content));
  });
}

/** New weights in an old folder; what earlier saves left there when they were killed is removed. */
function replaceWeights(target: string, write: (into: string) => SavedModel): SavedModel {
  removeLeftovers(target);
  const saved = write(target);
  for (const name of fs.readdirSync(target)) {
    const isStale =
      /^model(-g\d+)?(-\d{5}-of-\d{5})?\.safetensors$/.test(name) && !saved.files.includes(name);
    if (isStale) fs.rmSync(path.join(target, name), { force: true });
  }
  return saved;
}

/** One source per parameter, and per buffer of a router; a tensor is read when its turn comes. */
function listTensors({ config, parts, read, buffers }: WritableValues, dtype: DType): TensorSource[] {
  const trained = describeTensors(config, parts).map((description) => ({
    name: description.id,
    dtype,
    shape: fileShape(description),
    content: () => {
      const values = read(description.id);
      const [rows = 0, columns = 0] = description.shape;
      return { data: description.transposed ? transposeMatrix(values, rows, columns) : values };
    },
  }));
  const kept = buffers.map(({ description: { id, shape }, values }) => ({
    name: id,
    dtype: 'F32' as const,
    shape,
    content: () => ({ data: values }),
  }));
  return [...trained, ...kept];
}

/** Files of an existing model folder that this save does not replace. */
function carryOver(target: string, stage: string, written: readonly string[]): void {
  if (!fs.existsSync(target)) return;
  for (const name of fs.readdirSync(target)) {
    if (written.includes(name) || isWeightFile(name)) continue;
    fs.cpSync(path.join(target, name), path.join(stage, name), { recursive: true, preserveTimestamps: true });
  }
}

function isWeightFile(name: string): boolean {
  return name.endsWith('.safetensors') || name === 'model.safetensors.index.json';
}

function assertReplaceable(target: string): void {
  if (!fs.existsSync(target)) return;
  const isFolder = fs.statSync(target).isDirectory();
  const names = isFolder ? fs.readdirSync(target) : [];
  if (isFolder && (names.length === 0 || names.includes('config.json'))) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `${target}: must be new, empty or a model folder to be replaced, got ${isFolder ? `a folder with ${names.length} other files` : 'a file'} (choose another folder)`,
    details: { folder: target, names: names.slice(0, 5) },
  });
}

function assertFileNames(files: { readonly [name: string]: string | Uint8Array }): void {
  for (const name of Object.keys(files)) {
    const own = name === 'config.json' || name === 'generation_config.json' || isWeightFile(name);
    if (!own && name !== '.' && name !== '..' && /^[^/\\:\0]+$/.test(name)) continue;
    throw new MoebiusError({
      code: 'configuration',
      message: `files: must have plain names other than the model's own, got ${JSON.stringify(name)}`,
      details: { name },
    });
  }
}

function writeDurably(file: string, content: string | Uint8Array): void {
  const handle = fs.openSync(file, 'wx', 0o666);
  try {
    fs.writeFileSync(handle, content);
    fs.fsyncSync(handle);
  } finally {
    fs.closeSync(handle);
  }
}

function asIoError(target: string, error: unknown): unknown {
  const code = (error as { code?: unknown; syscall?: unknown }).code;
  if (!(error instanceof Error) || typeof code !== 'string' || !('syscall' in error)) return error;
  return new MoebiusError({
    code: 'io',
    message: `${target}: must be writable, got ${code} (the old folder stands; check space and permissions)`,
    details: { folder: target, code },
    cause: error,
  });
}
