/**
 * @file Questions about a zod schema's structure: is every object in it closed, and which keys does it know at a path.
 * Reads zod's documented `_zod.def` records; unknown kinds of schema are leaves.
 */
import type { z } from 'zod';

/** The fields of a schema definition that lead to other schemas. */
interface Definition {
  readonly type: string;
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>;
  readonly catchall?: z.core.$ZodType;
  readonly element?: z.core.$ZodType;
  readonly valueType?: z.core.$ZodType;
  readonly innerType?: z.core.$ZodType;
  readonly options?: readonly z.core.$ZodType[];
  readonly items?: readonly z.core.$ZodType[];
  readonly rest?: z.core.$ZodType | null;
  readonly left?: z.core.$ZodType;
  readonly right?: z.core.$ZodType;
  readonly in?: z.core.$ZodType;
  readonly getter?: () => z.core.$ZodType;
}

function definitionOf(schema: z.core.$ZodType): Definition {
  return schema._zod.def as unknown as Definition;
}

/** Schemas that stand at the same place as this one: inside wrappers, all branches of a union, both of an intersection. */
function samePlace(definition: Definition): z.core.$ZodType[] {
  const wrapped = [
    definition.innerType,
    definition.in,
    definition.left,
    definition.right,
    definition.getter?.(),
  ];
  const isUnion = definition.type === 'union';
  return [...wrapped, ...(isUnion ? (definition.options ?? []) : [])].filter(
    (schema) => schema !== undefined,
  );
}

/** Schemas one step down, with the step. `*` stands for any key or index. */
function children(definition: Definition): [string, z.core.$ZodType][] {
  const steps: [string, z.core.$ZodType][] = Object.entries(definition.shape ?? {});
  for (const [at, item] of (definition.items ?? []).entries()) steps.push([String(at), item]);
  for (const any of [definition.element, definition.valueType, definition.rest]) {
    if (any !== undefined && any !== null) steps.push(['*', any]);
  }
  return steps;
}

/**
 * Where a schema has an object that would silently drop unknown keys (`z.object` instead of `z.strictObject`).
 *
 * @returns dotted paths; empty when every object is closed or openly open (`z.looseObject`, `.catchall`)
 */
export function openObjects(schema: z.core.$ZodType): string[] {
  const found: string[] = [];
  const seen = new Set<z.core.$ZodType>();
  const visit = (current: z.core.$ZodType, path: readonly string[]): void => {
    if (seen.has(current)) return;
    seen.add(current);
    const definition = definitionOf(current);
    if (definition.type === 'object' && definition.catchall === undefined)
      found.push(path.join('.') || '(root)');
    for (const inner of samePlace(definition)) visit(inner, path);
    for (const [step, inner] of children(definition)) visit(inner, [...path, step]);
  };
  visit(schema, []);
  return found;
}

/** The keys that any object schema at this path knows. */
export function knownKeysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  let level = expand([schema]);
  for (const step of path) {
    const next = level.flatMap((current) =>
      children(definitionOf(current))
        .filter(([name]) => name === '*' || name === String(step))
        .map(([, inner]) => inner),
    );
    level = expand(next);
  }
  return [...new Set(level.flatMap((current) => Object.keys(definitionOf(current).shape ?? {})))];
}

function expand(schemas: readonly z.core.$ZodType[]): z.core.$ZodType[] {
  const all = new Set<z.core.$ZodType>();
  const visit = (schema: z.core.$ZodType): void => {
    if (all.has(schema)) return;
    all.add(schema);
    for (const inner of samePlace(definitionOf(schema))) visit(inner);
  };
  for (const schema of schemas) visit(schema);
  return [...all];
}
