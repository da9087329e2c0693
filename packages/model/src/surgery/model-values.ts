/**
 * @file A model as plain numbers that are read one parameter at a time: what surgery takes and gives. Nothing is held but the
 * last few parameters, so a model larger than memory can be rewritten, and operations can be put one behind another.
 */
import { MoebiusError } from '@moebius/core';
import { createParameterStore, readHostSync } from '@moebius/tensor';
import type { ParameterInit } from '@moebius/tensor';

import type { ModelConfig } from '../config.ts';
import { createModel, type DecoderModel, type ModelOptions } from '../decoder.ts';
import { describeBuffers, describeTensors } from '../describe-parameters.ts';
import type { GenerationConfig } from '../generation-config.ts';
import { assertComplete, openFiles, placeWeight } from '../load-model.ts';
import type { ModelParts, PartsChoice } from '../model-parts.ts';
import { type SavedModel, type SaveModelOptions, writeValues } from '../save-model.ts';
import { openUnchanged } from '../steady-folder.ts';
import { findWeights } from '../weight-plan.ts';

/** A model as numbers. */
export interface ModelValues {
  /** The configuration. */
  readonly config: ModelConfig;
  /** Routers and kinds of experts. */
  readonly parts: ModelParts;
  /** What generation_config.json holds. */
  readonly generation: GenerationConfig;
  /**
   * A parameter, or a router's buffer, by its name in a file.
   *
   * @returns as it lies in memory (expert matrices `[F, D]`), borrowed: not to be written
   * @throws `registry` when the model has none of this name
   */
  read(id: string): Float32Array;
  /** Lets go of files. Reading afterwards throws. */
  close(): void;
}

/**
 * Opens a model folder to be read one parameter at a time.
 *
 * @param folder - config.json and safetensors; compared with each other before anything is read
 * @param options - plug-ins whose names config.json has; `checkFinite`, default true
 * @returns numbers; close them
 * @throws as `loadModel`
 */
export function openModelValues(
  folder: string,
  options: PartsChoice & { readonly checkFinite?: boolean } = {},
): ModelValues {
  const { checkFinite = true, ...choice } = options;
  const { config, generation, parts, reader } = openUnchanged(folder, () => openFiles(folder, choice));
  try {
    const plan = findWeights(config, reader, parts);
    assertComplete(plan, { folder, missing: 'refuse', unused: 'refuse' });
    const sources = new Map(plan.sources.map((source) => [source.id, source]));
    const read = (id: string): Float32Array => {
      const source = sources.get(id) ?? unknown(id);
      const { name, rows } = source;
      const value = rows === null ? reader.read(name) : reader.readSlice(name, rows);
      return placeWeight(source, value.data as Float32Array, { folder, checkFinite });
    };
    return { config, generation, parts, read, close: () => reader.close() };
  } catch (error) {
    reader.close();
    throw error;
  }
}

/**
 * The numbers of a model in memory.
 *
 * @param model - borrowed, and not trained while they are read
 */
export function valuesOfModel(model: DecoderModel): ModelValues {
  const { config, parts, generation, parameters, routerState } = model;
  return {
    config,
    parts,
    generation,
    read(id) {
      const buffer = routerState.list().find(({ description }) => description.id === id);
      if (buffer !== undefined) return buffer.values;
      if (!parameters.ids().includes(id)) unknown(id);
      return Float32Array.from(readHostSync(parameters.read(id)));
    },
    close: () => undefined,
  };
}

/**
 * Numbers as a model that runs.
 *
 * @param values - borrowed; read once
 * @param wiring - who runs the experts
 * @returns a model; dispose it
 */
export function modelOfValues(
  values: ModelValues,
  wiring: Omit<
    ModelOptions,
    'config' | 'parameters' | 'router' | 'experts' | 'generation' | 'buffers' | 'routerState'
  > = {},
): DecoderModel {
  const { config, parts, generation } = values;
  const initial: { [id: string]: ParameterInit } = {};
  for (const { id, shape, unit } of describeTensors(config, parts))
    initial[id] = { shape, unit, data: values.read(id) };
  const buffers: { [id: string]: Float32Array } = {};
  for (const { id } of describeBuffers(config, parts)) buffers[id] = values.read(id).slice();
  return createModel({
    ...wiring,
    config,
    generation,
    buffers,
    parameters: createParameterStore(initial),
    router: ({ layer }) => parts.routers[layer] ?? unknown(`router of layer ${layer}`),
    experts: ({ layer, expert }) =>
      parts.experts[layer]?.[expert] ?? unknown(`expert ${expert} of layer ${layer}`),
  });
}

/**
 * Writes numbers as a model folder, each parameter when its turn comes. A model's folder may be its own source only by way of
 * another folder: what is read stays what it was.
 *
 * @param folder - new, empty, or a model folder, which is replaced
 * @param values - borrowed
 * @param options - as for `saveModel`
 */
export function saveModelValues(
  folder: string,
  values: ModelValues,
  options: SaveModelOptions = {},
): SavedModel {
  const { config, parts, generation } = values;
  const buffers = describeBuffers(config, parts).map((description) => ({
    description,
    values: values.read(description.id).slice(),
  }));
  return writeValues(folder, { config, parts, generation, buffers, read: (id) => values.read(id) }, options);
}

function unknown(id: string): never {
  throw new MoebiusError({
    code: 'registry',
    message: `parameter: must be one of the model, got "${id}"`,
    details: { id },
  });
}
