/**
 * @file The `moebius` section of config.json: names of routers and kinds of experts that are not the family's own, and shared experts.
 *
 * Hugging Face transformers ignores the key. Layers are listed, so that a section can be read without the model.
 */
import { describeValue } from '@moebius/core';
import { builtInExperts } from '@moebius/routing';
import type { RouterSettings } from '@moebius/routing';
import { builtInCombiners } from '@moebius/routing/experts';

import type { FaultList } from './config-faults.ts';

/** A router by name, and the layers that have it. */
export interface NamedRouter {
  /** Of a built-in router or a plug-in. */
  readonly name: string;
  /** What its factory makes it from. */
  readonly options: RouterSettings;
  /** Sparse layers that have it, ascending. */
  readonly layers: readonly number[];
}

/** A kind of expert by name, and the experts that are of it. */
export interface NamedExperts {
  /** Of a built-in kind or a plug-in. */
  readonly name: string;
  /** Sparse layers that have such experts, ascending. */
  readonly layers: readonly number[];
  /** Which experts of these layers; absent: all. */
  readonly experts?: readonly number[];
}

/** A shared expert beside the routed ones, by built-in names. */
export interface NamedShared {
  /** How it joins them: `sum`, `sigmoid-gate`, `softmax-mix`, `conditional`, `weighted-mean`. */
  readonly combiner: string;
  /** Its kind, built in. Default `gated-silu`. */
  readonly expert: string;
  /** Its hidden width. */
  readonly width: number;
  /** Sparse layers that have it, ascending. */
  readonly layers: readonly number[];
}

/** What config.json says about parts that are not the family's own. */
export interface ModelExtension {
  /** Of this section. */
  readonly schemaVersion: 1;
  /** Absent: every sparse layer has the family's gate. */
  readonly routers?: readonly NamedRouter[];
  /** Absent: every expert is of the family's kind. */
  readonly experts?: readonly NamedExperts[];
  /** Absent: no layer has a shared expert. */
  readonly shared?: readonly NamedShared[];
}

/** Reads the section, noting every fault. */
export function readExtension(faults: FaultList): ModelExtension | undefined {
  const value = faults.raw('moebius');
  if (value === undefined || value === null) return undefined;
  const section = isObject(value) ? value : {};
  if (!isObject(value)) faults.add('moebius', 'must be an object', value);
  else if (section['schemaVersion'] !== 1) {
    const remedy = 'this version reads 1';
    faults.add('moebius.schemaVersion', 'must be 1', section['schemaVersion'], remedy);
  }
  const note = (path: string, expectation: string, got: unknown): void => {
    faults.add(path, expectation, got);
  };
  const routers = listOf(section['routers'], 'moebius.routers', note)?.map((entry, at) =>
    readRouter(entry, `moebius.routers[${at}]`, note),
  );
  const experts = listOf(section['experts'], 'moebius.experts', note)?.map((entry, at) =>
    readExperts(entry, `moebius.experts[${at}]`, note),
  );
  const shared = listOf(section['shared'], 'moebius.shared', note)?.map((entry, at) =>
    readShared(entry, `moebius.shared[${at}]`, note),
  );
  return {
    schemaVersion: 1,
    ...(routers === undefined ? {} : { routers }),
    ...(experts === undefined ? {} : { experts }),
    ...(shared === undefined ? {} : { shared }),
  };
}

function readShared(entry: { readonly [key: string]: unknown }, path: string, note: Note): NamedShared {
  const { combiner, expert = 'gated-silu', width } = entry;
  const oneOf = (field: string, value: unknown, known: readonly string[]): string => {
    if (typeof value === 'string' && known.includes(value)) return value;
    note(`${path}.${field}`, `must be one of ${known.join(', ')}`, value);
    return known[0] ?? '';
  };
  const isWidth = Number.isInteger(width) && (width as number) >= 1;
  if (!isWidth) note(`${path}.width`, 'must be an integer of at least 1', width);
  return {
    combiner: oneOf(
      'combiner',
      combiner,
      builtInCombiners().map(({ name }) => name),
    ),
    expert: oneOf(
      'expert',
      expert,
      builtInExperts().map(({ name }) => name),
    ),
    width: isWidth ? (width as number) : 1,
    layers: readIndices(entry['layers'], `${path}.layers`, note),
  };
}

type Note = (path: string, expectation: string, got: unknown) => void;

function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function listOf(
  value: unknown,
  path: string,
  note: Note,
): readonly { readonly [key: string]: unknown }[] | undefined {
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.every(isObject)) return value;
  note(path, 'must be a list of objects', value);
  return undefined;
}

function readRouter(entry: { readonly [key: string]: unknown }, path: string, note: Note): NamedRouter {
  const { options = {} } = entry;
  if (!isObject(options)) note(`${path}.options`, 'must be an object', options);
  return {
    name: readName(entry['name'], path, note),
    options: isObject(options) ? options : {},
    layers: readIndices(entry['layers'], `${path}.layers`, note),
  };
}

function readExperts(entry: { readonly [key: string]: unknown }, path: string, note: Note): NamedExperts {
  const { experts } = entry;
  return {
    name: readName(entry['name'], path, note),
    layers: readIndices(entry['layers'], `${path}.layers`, note),
    ...(experts === undefined ? {} : { experts: readIndices(experts, `${path}.experts`, note) }),
  };
}

function readName(value: unknown, path: string, note: Note): string {
  if (typeof value === 'string' && value !== '') return value;
  note(`${path}.name`, 'must be the name of a part', value);
  return '';
}

// A hostile file must not make us list more than a model can have.
const maxIndices = 1_048_576;

function readIndices(value: unknown, path: string, note: Note): readonly number[] {
  const valid =
    Array.isArray(value) &&
    value.length <= maxIndices &&
    value.every((item) => Number.isInteger(item) && (item as number) >= 0);
  if (valid) return value as number[];
  note(path, 'must be a list of integers from 0', Array.isArray(value) ? describeValue(value) : value);
  return [];
}
