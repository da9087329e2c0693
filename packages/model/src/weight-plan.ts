/**
 * @file Which tensor of a file becomes which parameter: names and shapes only, nothing is read.
 */
import type { TensorReader } from '@moebius/safetensors';

import { isSparseLayer, type ModelConfig } from './config.ts';
import {
  describeBuffers,
  describeTensors,
  fileShape,
  type ParameterDescription,
} from './describe-parameters.ts';
import { familyOf } from './family.ts';
import { type ModelParts, resolveParts } from './model-parts.ts';

/** Where a parameter's values are. */
export interface WeightSource {
  /** The parameter. */
  readonly id: string;
  /** The tensor in the file. */
  readonly name: string;
  /** Rows of the tensor's first dimension; null for all. */
  readonly rows: { readonly start: number; readonly end: number } | null;
  /** Which part of what was read, in units of the parameter's size: 0, or 1 for the up half of a fused tensor. */
  readonly part: number;
  /** The parameter's description. */
  readonly description: ParameterDescription;
}

/** What a file offers and lacks. */
export interface WeightPlan {
  /** Parameters that are there, in model order. */
  readonly sources: readonly WeightSource[];
  /** Parameters that are not. */
  readonly missing: readonly ParameterDescription[];
  /** Tensors that no parameter needs. */
  readonly unused: readonly string[];
  /** Tensors of another shape or type. */
  readonly faults: readonly string[];
}

const floatTypes: readonly string[] = ['F32', 'F16', 'BF16'];

/**
 * Compares a file with a configuration.
 *
 * @param config - the model
 * @param reader - names, shapes and types are asked for
 * @param parts - its routers and experts
 */
export function findWeights(
  config: ModelConfig,
  reader: Pick<TensorReader, 'names' | 'has' | 'info'>,
  parts: ModelParts = resolveParts(config),
): WeightPlan {
  const fused = fusedSources(config);
  const sources: WeightSource[] = [];
  const missing: ParameterDescription[] = [];
  const faults: string[] = [];
  const used = new Set<string>();
  for (const description of [...describeTensors(config, parts), ...describeBuffers(config, parts)]) {
    const { id } = description;
    const whole: Place = { name: id, rows: null, part: 0, shape: fileShape(description) };
    const place = [whole, fused[id]].find(
      (candidate) => candidate !== undefined && reader.has(candidate.name),
    );
    if (place === undefined) {
      missing.push(description);
      continue;
    }
    const { name, rows, part, shape } = place;
    const info = reader.info(name);
    if (!used.has(name) && info.shape.join() !== shape.join()) {
      faults.push(`${name} of shape [${info.shape.join(', ')}] where [${shape.join(', ')}] is needed`);
    }
    if (!used.has(name) && !floatTypes.includes(info.dtype)) faults.push(`${name} of type ${info.dtype}`);
    used.add(name);
    sources.push({ id, name, rows, part, description });
  }
  const unused = reader.names().filter((name) => !used.has(name) && !isIgnorable(name, config));
  return { sources, missing, unused, faults };
}

interface Place {
  readonly name: string;
  readonly rows: WeightSource['rows'];
  readonly part: number;
  /** Shape of the whole tensor in the file. */
  readonly shape: readonly number[];
}

/** Where experts are when transformers 5 wrote its fused tensors as they are. */
function fusedSources(config: ModelConfig): { readonly [id: string]: Place } {
  const { names } = familyOf(config);
  const { num_experts: experts, moe_intermediate_size: inner, hidden_size: width } = config;
  const places: { [id: string]: Place } = {};
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
    if (!isSparseLayer(config, layer)) continue;
    const fused = names.fusedExperts(layer);
    for (let expert = 0; expert < experts; expert += 1) {
      const own = names.expert(layer, expert);
      const rows = { start: expert, end: expert + 1 };
      const gateUp = { name: fused.gateUp, rows, shape: [experts, 2 * inner, width] };
      places[own.gate] = { ...gateUp, part: 0 };
      places[own.up] = { ...gateUp, part: 1 };
      places[own.down] = { name: fused.down, rows, part: 0, shape: [experts, width, inner] };
    }
  }
  return places;
}

/** Tensors that old files carry and nobody needs: rotary buffers, and the head of a tied model. */
function isIgnorable(name: string, config: ModelConfig): boolean {
  if (name.endsWith('.rotary_emb.inv_freq')) return true;
  return config.tie_word_embeddings && name === familyOf(config).names.head;
}
