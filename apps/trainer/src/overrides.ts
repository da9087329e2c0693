/**
 * @file `--set path=value`: any scalar of a configuration can be changed from the command line.
 *
 * A path must name something that is there (the nearest name is suggested), and a value keeps its kind: a number stays
 * a number. The library's own validation then checks the whole configuration as if it had been written that way.
 */
import { MoebiusError, nearest } from '@moebius/core';

/** A JSON value. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** One change: where, and the text that was given. */
export interface Override {
  /** Dotted path, list positions as numbers: `model.num_experts`, `data.0.path`. */
  readonly path: string;
  /** What stood behind `=`. */
  readonly text: string;
}

/**
 * Reads `path=value`.
 *
 * @throws `configuration` when there is no `=`
 */
export function parseOverride(argument: string): Override {
  const at = argument.indexOf('=');
  if (at > 0) return { path: argument.slice(0, at).trim(), text: argument.slice(at + 1) };
  throw new MoebiusError({
    code: 'configuration',
    message: `--set: must be path=value, got "${argument}" (for example --set optimizer.learningRate=0.001)`,
    details: { argument },
  });
}

/**
 * A copy of a configuration with some scalars changed.
 *
 * @param optional - paths that may be set although they are not there now
 * @throws `configuration` when a path names nothing, an object or a list, or a value is of another kind
 */
export function applyOverrides<T>(
  config: T,
  overrides: readonly Override[],
  optional: readonly string[] = [],
): T {
  return overrides.reduce<Json>((current, override) => {
    const seeded = optional.includes(override.path) ? seedAt(current, override.path.split('.')) : current;
    return replaceAt(seeded, override, override.path.split('.'), []);
  }, config as Json) as T;
}

/** Puts null where a path leads, unless something is there. */
function seedAt(value: Json, [key, ...rest]: readonly string[]): Json {
  if (key === undefined) return value;
  const object = isBranch(value) ? (value as { [key: string]: Json }) : {};
  return { ...object, [key]: seedAt(object[key] ?? null, rest) };
}

/**
 * The scalars of a configuration and their values, as `--set` names them.
 *
 * @param prefix - where `value` stands; empty for the whole
 */
export function scalarPaths(value: Json, prefix = ''): { readonly path: string; readonly value: Json }[] {
  if (!isBranch(value)) return [{ path: prefix, value }];
  return Object.entries(value as { [key: string]: Json }).flatMap(([key, child]) =>
    scalarPaths(child, prefix === '' ? key : `${prefix}.${key}`),
  );
}

function replaceAt(value: Json, override: Override, path: readonly string[], done: readonly string[]): Json {
  const [key, ...rest] = path;
  if (key === undefined) return parseScalar(override, value);
  if (!isBranch(value)) throw unknownPath(override, done, []);
  const entries = Object.entries(value as { [key: string]: Json });
  if (!entries.some(([name]) => name === key))
    throw unknownPath(
      override,
      done,
      entries.map(([name]) => name),
      key,
    );
  const changed = entries.map(([name, child]): [string, Json] => [
    name,
    name === key ? replaceAt(child, override, rest, [...done, name]) : child,
  ]);
  return Array.isArray(value) ? changed.map(([, child]) => child) : Object.fromEntries(changed);
}

function isBranch(value: Json): boolean {
  return typeof value === 'object' && value !== null;
}

function unknownPath(
  override: Override,
  done: readonly string[],
  known: readonly string[],
  key = '',
): MoebiusError {
  const place = done.length === 0 ? 'the configuration' : done.join('.');
  const near = nearest(key, known);
  const offer = known.length === 0 ? `${place} is a single value` : `${place} has ${known.join(', ')}`;
  const remedy = near === undefined ? offer : `did you mean ${[...done, near].join('.')}?`;
  return new MoebiusError({
    code: 'configuration',
    message: `--set ${override.path}: must name a value of the configuration, got a name that is not there (${remedy})`,
    details: { path: override.path, known: [...known] },
  });
}

function parseScalar({ path, text }: Override, current: Json): Json {
  if (isBranch(current)) {
    const paths = scalarPaths(current, path).map((entry) => entry.path);
    throw fault(
      path,
      `one value, not ${Array.isArray(current) ? 'a list' : 'an object'}`,
      text,
      `set ${paths.slice(0, 4).join(', ')} …`,
    );
  }
  if (typeof current === 'string') return text;
  if (typeof current === 'boolean') {
    if (text === 'true' || text === 'false') return text === 'true';
    throw fault(path, 'true or false', text, `it is ${String(current)} now`);
  }
  if (current === null) return parseLoose(text);
  const number = text.trim() === '' ? NaN : Number(text);
  if (Number.isFinite(number)) return number;
  if (text === 'null') return null;
  throw fault(path, 'a finite number', text, `it is ${current as number} now`);
}

/** A value that is null now can become anything: JSON when it reads as JSON, else the text. */
function parseLoose(text: string): Json {
  try {
    const value = JSON.parse(text) as Json;
    return isBranch(value) ? text : value;
  } catch {
    return text;
  }
}

function fault(path: string, expectation: string, text: string, remedy: string): MoebiusError {
  return new MoebiusError({
    code: 'configuration',
    message: `--set ${path}: must be ${expectation}, got "${text}" (${remedy})`,
    details: { path, text },
  });
}
