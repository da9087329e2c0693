/** @file Which expert and part a parameter of a model is, by name, and how an expert is read as numbers. */
import { MoebiusError } from '@moebius/core';
import { type ExpertKind, gatedExpert, partShape } from '@moebius/routing';
import type { HostExpert, HostTensor } from '@moebius/routing/surgery';

import { isSparseLayer, type ModelConfig } from '../config.ts';
import { familyOf } from '../family.ts';
import type { ModelValues } from './model-values.ts';

/** A part of an expert of a layer. */
export interface ExpertPart {
  readonly layer: number;
  readonly expert: number;
  readonly part: string;
}

/** The expert parts of a model by the names of their tensors; a frozen base that each expert has for itself is among them. */
export function expertParts(
  config: ModelConfig,
  kinds: readonly (readonly ExpertKind[])[],
): ReadonlyMap<string, ExpertPart> {
  const { names } = familyOf(config);
  const found = new Map<string, ExpertPart>();
  for (const [layer, list] of kinds.entries()) {
    for (const [expert, kind] of list.entries()) {
      const { base } = kind;
      const own = base?.scope === 'expert' ? Object.keys(base.kind.parts) : [];
      for (const part of [...Object.keys(kind.parts), ...own]) {
        found.set(names.expertPart(layer, expert, part), { layer, expert, part });
      }
    }
  }
  return found;
}

/** The parts of dense layers by the names of their tensors. */
export function denseParts(
  config: ModelConfig,
): ReadonlyMap<string, { readonly layer: number; readonly part: string }> {
  const { names } = familyOf(config);
  const found = new Map<string, { readonly layer: number; readonly part: string }>();
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
    if (isSparseLayer(config, layer)) continue;
    for (const [part, id] of Object.entries(names.dense(layer))) found.set(String(id), { layer, part });
  }
  return found;
}

/** The names of a dense layer's parts, by the parts of a gated expert. */
export function denseIds(config: ModelConfig, layer: number): { readonly [part: string]: string } {
  return { ...familyOf(config).names.dense(layer) };
}

/** The names of an expert's parts. */
export function expertPartIds(
  config: ModelConfig,
  kind: ExpertKind,
  { layer, expert }: Omit<ExpertPart, 'part'>,
): { readonly [part: string]: string } {
  const { names } = familyOf(config);
  return Object.fromEntries(
    Object.keys(kind.parts).map((part) => [part, names.expertPart(layer, expert, part)]),
  );
}

/** A dense layer as an expert. */
export function readDense(values: ModelValues, layer: number): HostExpert {
  const { config } = values;
  const shape = [config.intermediate_size, config.hidden_size];
  return readParts(values, denseIds(config, layer), () => shape);
}

/** An expert of a sparse layer. */
export function readExpert(values: ModelValues, layer: number, expert: number): HostExpert {
  const { config, parts } = values;
  const kind = parts.experts[layer]?.[expert] ?? gatedExpert();
  const size = { modelWidth: config.hidden_size, hiddenWidth: config.moe_intermediate_size };
  return readParts(values, expertPartIds(config, kind, { layer, expert }), (part) =>
    partShape(kind, part, size),
  );
}

function readParts(
  values: ModelValues,
  ids: { readonly [part: string]: string },
  shapeOf: (part: string) => readonly number[],
): HostExpert {
  return Object.fromEntries(
    Object.entries(ids).map(([part, id]): readonly [string, HostTensor] => [
      part,
      { shape: shapeOf(part), data: values.read(id) },
    ]),
  );
}

/** A part's values. */
export function dataOf(expert: HostExpert, part: string): Float32Array {
  const data = expert[part]?.data;
  if (data !== undefined) return data;
  throw new MoebiusError({
    code: 'shape',
    message: `internal: expert must have the part ${part}, got ${Object.keys(expert).join(', ')}`,
    details: { part },
  });
}

/** Layers that a choice names: a list, or all of the candidates. */
export function chooseLayers(
  chosen: readonly number[] | undefined,
  { among, what }: { readonly among: readonly number[]; readonly what: string },
): readonly number[] {
  const list = among.length === 0 ? 'none' : among.join(', ');
  const fail = (got: string): never => {
    throw new MoebiusError({
      code: 'configuration',
      message: `layers: must name ${what} of the model (${list}), got ${got}`,
      details: { among: [...among], got },
    });
  };
  if (chosen === undefined) return among.length > 0 ? among : fail('all');
  const wrong = chosen.find((layer) => !among.includes(layer));
  if (wrong !== undefined) return fail(String(wrong));
  return chosen.length > 0 ? [...new Set(chosen)].toSorted((a, b) => a - b) : fail('an empty list');
}
