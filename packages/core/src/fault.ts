/** @file Turns zod's issues into faults of the form *path: expectation, got value (remedy)*. */
import type { z } from 'zod';

import { nearest } from './nearest.ts';
import { knownKeysAt } from './schema-walk.ts';

/** One thing that is wrong with a configuration. */
export interface Fault {
  /** Where: `layers[1].moe.experts`, or the empty string for the whole value. */
  readonly path: string;
  /** What must hold: *must be …*. */
  readonly expectation: string;
  /** What was there, in words short enough to print. */
  readonly got: string;
  /** What to do about it, when that is known. */
  readonly remedy?: string;
}

/** What faults are found in. */
export interface FaultContext {
  /** The schema that was broken. */
  readonly schema: z.core.$ZodType;
  /** The value that broke it. */
  readonly value: unknown;
}

const SHOWN_LENGTH = 60;

/** A value in at most 60 characters. */
export function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (typeof value === 'function' || typeof value === 'symbol') return typeof value;
  const text = toJson(value);
  return text.length <= SHOWN_LENGTH ? text : `${text.slice(0, SHOWN_LENGTH - 1)}…`;
}

function toJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

/** `['layers', 1, 'moe']` as `layers[1].moe`; keys that are no identifiers are quoted. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (typeof step === 'string' && /^[A-Za-z_$][\w$-]*$/.test(step))
      text += text === '' ? step : `.${step}`;
    else text += `[${JSON.stringify(String(step))}]`;
  }
  return text;
}

/** The faults of a list of issues, in the order found. */
export function faultsOf(issues: readonly z.core.$ZodIssue[], context: FaultContext): Fault[] {
  return issues.flatMap((issue) => faultsOfIssue(issue, [], context));
}

function faultsOfIssue(
  issue: z.core.$ZodIssue,
  base: readonly PropertyKey[],
  context: FaultContext,
): Fault[] {
  const path = [...base, ...issue.path];
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey(path, key, context));
  if (issue.code === 'invalid_union') return unionFaults(issue, path, context);
  const got = valueAt(context.value, path);
  return [fault(path, expectationOf(issue), got, remedyOf(issue, got))];
}

function fault(path: readonly PropertyKey[], expectation: string, got: unknown, remedy?: string): Fault {
  const base = { path: formatPath(path), expectation, got: describeValue(got) };
  return remedy === undefined ? base : { ...base, remedy };
}

function unknownKey(path: readonly PropertyKey[], key: string, context: FaultContext): Fault {
  const known = knownKeysAt(context.schema, path);
  const close = nearest(key, known);
  const remedy =
    close === undefined ? `remove it; known keys: ${known.join(', ')}` : `did you mean "${close}"?`;
  return {
    path: formatPath([...path, key]),
    expectation: 'must be a known key',
    got: describeValue(key),
    remedy,
  };
}

type UnionIssue = Extract<z.core.$ZodIssue, { code: 'invalid_union' }>;

function unionFaults(issue: UnionIssue, path: readonly PropertyKey[], context: FaultContext): Fault[] {
  const discriminators = (issue as { readonly options?: readonly unknown[] }).options;
  if (issue.errors.length === 0 && discriminators !== undefined) {
    const got = valueAt(context.value, path);
    return [
      fault(path, `must be one of ${listValues(discriminators)}`, got, closeValue(got, discriminators)),
    ];
  }
  const entered = issue.errors.filter((branch) =>
    branch.some((inner) => inner.path.length > 0 || !isKindIssue(inner)),
  );
  const closest = entered.toSorted((a, b) => a.length - b.length)[0];
  if (closest !== undefined) return closest.flatMap((inner) => faultsOfIssue(inner, path, context));
  const expectations = issue.errors.flatMap((branch) =>
    branch.map((inner) => withoutMust(expectationOf(inner))),
  );
  const wording = `must be ${[...new Set(expectations)].join(' or ') || 'one of the allowed forms'}`;
  return [fault(path, wording, valueAt(context.value, path))];
}

/** Whether the issue says "this is another kind of thing", as opposed to a fault inside the right kind. */
function isKindIssue(issue: z.core.$ZodIssue): boolean {
  return issue.code === 'invalid_type' || issue.code === 'invalid_value' || issue.code === 'invalid_union';
}

function withoutMust(expectation: string): string {
  return expectation.replace(/^must be /, '');
}

function expectationOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${KINDS.get(issue.expected) ?? `of type ${issue.expected}`}`;
    case 'invalid_value':
      return `must be ${issue.values.length > 1 ? 'one of ' : ''}${listValues(issue.values)}`;
    case 'too_small':
      return bound(issue.origin, issue.inclusive === false ? 'more than' : 'at least', issue.minimum);
    case 'too_big':
      return bound(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum);
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`;
    case 'invalid_format':
      return issue.pattern === undefined ? `must be a valid ${issue.format}` : `must match ${issue.pattern}`;
    case 'invalid_key':
    case 'invalid_element':
      return `must have valid keys and elements (${issue.issues.map((inner) => inner.message).join('; ')})`;
    default:
      return issue.message;
  }
}

const KINDS: ReadonlyMap<string, string> = new Map([
  ['string', 'a string'],
  ['number', 'a number'],
  ['int', 'an integer'],
  ['boolean', 'a boolean'],
  ['object', 'an object'],
  ['array', 'an array'],
  ['tuple', 'an array'],
  ['record', 'an object'],
  ['null', 'null'],
  ['undefined', 'absent'],
  ['never', 'absent'],
  ['bigint', 'a bigint'],
]);

function bound(origin: string, comparison: string, limit: number | bigint): string {
  if (origin === 'array' || origin === 'tuple') return `must have ${comparison} ${limit} elements`;
  if (origin === 'string') return `must have ${comparison} ${limit} characters`;
  return `must be ${comparison} ${limit}`;
}

function listValues(values: readonly unknown[]): string {
  return values.map(describeValue).join(', ');
}

function remedyOf(issue: z.core.$ZodIssue, got: unknown): string | undefined {
  if (issue.code === 'custom') {
    const remedy: unknown = issue.params?.['remedy'];
    return typeof remedy === 'string' ? remedy : undefined;
  }
  if (issue.code === 'invalid_value' && got !== undefined) return closeValue(got, issue.values);
  return got === undefined ? 'it is required' : undefined;
}

function closeValue(got: unknown, values: readonly unknown[]): string | undefined {
  if (typeof got !== 'string') return undefined;
  const close = nearest(
    got,
    values.filter((value) => typeof value === 'string'),
  );
  return close === undefined ? undefined : `did you mean "${close}"?`;
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let current = value;
  for (const step of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, step)) return undefined;
    current = (current as Record<PropertyKey, unknown>)[step];
  }
  return current;
}
