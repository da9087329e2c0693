/**
 * @file The JSON Schema of a run configuration, for editors: what validation accepts, with every field's meaning. It says
 * less than `parseTrainConfig` in three places: relations between fields, regular expressions, and values of `model`.
 */
import type { JsonSchema } from '@moebius/core';

import { trainConfigDescriptions } from './train-config-descriptions.ts';

const modelPrefix = 'model.';

/**
 * Adds title, descriptions and the fields of `model`.
 *
 * @param schema - what the configuration's schema gives
 * @returns a new document
 */
export function describeTrainConfigSchema(schema: JsonSchema): JsonSchema {
  const { required, ...described } = describe(schema, '') as JsonSchema & { readonly required: string[] };
  return {
    title: 'Run configuration of Moebius',
    description: 'What `moebius train --config` reads: see `moebius config print` for every value.',
    ...described,
    required: required.filter((name) => name !== 'model'),
    // A model folder to begin from is a model, too.
    if: { required: ['initFrom'], properties: { initFrom: { type: 'string' } } },
    else: { required: ['model'], properties: { model: true } },
  };
}

/** A copy of a schema with the description of each property. */
function describe(schema: unknown, path: string): unknown {
  if (Array.isArray(schema)) return schema.map((branch) => describe(branch, path));
  if (typeof schema !== 'object' || schema === null) return schema;
  const entries = Object.entries(schema as JsonSchema).map(([key, value]): [string, unknown] => {
    if (key === 'properties') return [key, describeProperties(value as JsonSchema, path)];
    return ['anyOf', 'oneOf', 'allOf'].includes(key) ? [key, describe(value, path)] : [key, value];
  });
  const copy = Object.fromEntries(entries);
  const isModel = path === 'model' && copy['type'] === 'object';
  return isModel ? { ...copy, properties: modelProperties() } : copy;
}

function describeProperties(properties: JsonSchema, path: string): JsonSchema {
  return Object.fromEntries(
    Object.entries(properties).map(([name, value]) => {
      const place = path === '' ? name : `${path}.${name}`;
      const description = trainConfigDescriptions[place];
      const inner = describe(value, place) as JsonSchema;
      return [name, description === undefined ? inner : { description, ...inner }];
    }),
  );
}

/** Names and meanings of config.json's fields; their values are checked by the model package, not here. */
function modelProperties(): JsonSchema {
  const fields = Object.entries(trainConfigDescriptions).filter(([path]) => path.startsWith(modelPrefix));
  return Object.fromEntries(
    fields.map(([path, description]) => [path.slice(modelPrefix.length), { description }]),
  );
}
