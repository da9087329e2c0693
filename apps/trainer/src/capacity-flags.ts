/** @file Lists on the command line that name capacity settings: factors, keys and methods. */
import { InvalidArgumentError } from 'commander';

/** Names that `--drop` takes. */
const keyNames = ['score', 'order', 'reverse', 'random'] as const;

/** Names that `--method` takes. */
const methodNames = ['token', 'expanded', 'top-m', 'device', 'reroute', 'expert-drop'] as const;

/** Names that `--scope` takes. */
const scopeNames = ['global', 'rank', 'sequence'] as const;

/** Numbers of at least 0 between commas; `inf` drops nothing. */
export function capacityFactors(text: string): number[] {
  return splitList(text).map((entry) => {
    const value = entry === 'inf' ? Infinity : Number(entry);
    if (value >= 0) return value;
    throw new InvalidArgumentError(
      `Must be capacity factors of at least 0 with commas between, as in 2,1.5,1 (inf drops nothing), got ${JSON.stringify(entry)}.`,
    );
  });
}

/** One capacity factor. */
export function capacityFactor(text: string): number {
  const [value = NaN, ...rest] = capacityFactors(text);
  if (rest.length === 0) return value;
  throw new InvalidArgumentError('Must be one capacity factor.');
}

/** Keys between commas. */
export function dropKeys(text: string): string[] {
  return splitList(text).map((entry) => known(entry, keyNames));
}

/** One key. */
export function dropKey(text: string): string {
  return known(text, keyNames);
}

/** One method. */
export function capacityMethodName(text: string): string {
  return known(text, methodNames);
}

/** Methods between commas. */
export function capacityMethodNames(text: string): string[] {
  return splitList(text).map((entry) => known(entry, methodNames));
}

/** A scope. */
export function capacityScope(text: string): (typeof scopeNames)[number] {
  return known(text, scopeNames) as (typeof scopeNames)[number];
}

function splitList(text: string): string[] {
  const entries = text.split(',').map((entry) => entry.trim());
  if (entries.every((entry) => entry !== '')) return [...new Set(entries)];
  throw new InvalidArgumentError('Must be a list with commas between, without empty entries.');
}

function known(name: string, names: readonly string[]): string {
  if (names.includes(name)) return name;
  throw new InvalidArgumentError(`Must be of ${names.join(', ')}, got ${JSON.stringify(name)}.`);
}
