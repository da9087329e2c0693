/**
 * @file Configurations: plain JSON values checked against a schema, with every fault reported at once.
 *
 * Unknown keys are faults, never dropped; the nearest known key is suggested. The schema library (zod) is re-exported
 * as `z`, so that packages that describe configurations need no other dependency.
 */
import { z } from 'zod';

import { MoebiusError } from './errors.ts';
import { type Fault, faultsOf } from './fault.ts';
import { openObjects } from './schema-walk.ts';

/** A JSON Schema document, plain and serializable. */
export type JsonSchema = { readonly [key: string]: unknown };

/** A named configuration type. */
export interface ConfigDefinition<T> {
  /** What it configures, for messages. */
  readonly name: string;
  /** The schema; every object in it is closed. */
  readonly schema: z.ZodType<T>;
  /** Checks a value and fills defaults. See {@link parseConfig}. */
  parse(value: unknown, subject?: string): T;
  /** The schema of what may be *written*, for editors and documentation. */
  toJsonSchema(): JsonSchema;
}

/**
 * Names a schema.
 *
 * @param definition - `name` in kebab-case or words; `schema` of `z.strictObject`s
 * @throws `configuration` when an object of the schema would drop unknown keys (`z.object`).
 * @example
 * ```ts
 * const gate = defineConfig({
 *   name: 'gate',
 *   schema: z.strictObject({ schemaVersion: schemaVersion(1), experts: z.int().min(1), topK: z.int().min(1).default(2) }),
 * });
 * gate.parse({ experts: 8 }); // { schemaVersion: 1, experts: 8, topK: 2 }
 * ```
 */
export function defineConfig<T>(definition: {
  readonly name: string;
  readonly schema: z.ZodType<T>;
}): ConfigDefinition<T> {
  const { name, schema } = definition;
  assertClosed(name, schema);
  return Object.freeze({
    name,
    schema,
    parse: (value: unknown, subject?: string) => parseConfig(schema, value, subject ?? name),
    toJsonSchema: () => toJsonSchema(schema),
  });
}

/**
 * Checks a value against a schema and fills defaults.
 *
 * @param schema - of `z.strictObject`s
 * @param value - anything; not changed
 * @param subject - what is configured, for the message
 * @returns the checked value, caller owns
 * @throws `configuration` with one line per fault: `path: expectation, got value (remedy)`; `details.faults` has them as data.
 */
export function parseConfig<T>(schema: z.ZodType<T>, value: unknown, subject: string): T {
  assertClosed(subject, schema);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw configurationError(subject, faultsOf(result.error.issues, { schema, value }));
}

/**
 * One error for a list of faults, for checks that no schema can express.
 *
 * @param subject - what is configured
 * @param faults - at least one
 */
export function configurationError(subject: string, faults: readonly Fault[]): MoebiusError {
  const count = faults.length === 1 ? '1 fault' : `${faults.length} faults`;
  return new MoebiusError({
    code: 'configuration',
    message: `${subject}: must be a valid configuration, got ${count}:\n${faults.map((fault) => `  ${formatFault(fault)}`).join('\n')}`,
    details: { subject, faults: faults.map((fault) => ({ ...fault })) },
  });
}

/** *path: expectation, got value (remedy)*. */
export function formatFault(fault: Fault): string {
  const place = fault.path === '' ? '(whole value)' : fault.path;
  const remedy = fault.remedy === undefined ? '' : ` (${fault.remedy})`;
  return `${place}: ${fault.expectation}, got ${fault.got}${remedy}`;
}

/**
 * The version field of a serialized configuration: exactly `current`, and `current` when absent.
 *
 * @param current - the version this code writes and reads
 */
export function schemaVersion(current: number): z.ZodDefault<z.ZodLiteral<number>> {
  return z.literal(current).default(current);
}

/**
 * A schema as JSON Schema (draft 2020-12), of the value before defaults are filled. Refinements are not expressed.
 */
export function toJsonSchema(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
}

function assertClosed(subject: string, schema: z.ZodType): void {
  const open = openObjects(schema);
  if (open.length === 0) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `${subject} schema: every object must reject or keep unknown keys, got z.object at ${open.join(', ')} (use z.strictObject)`,
    details: { open },
  });
}

export { z };
