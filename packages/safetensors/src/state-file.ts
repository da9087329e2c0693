/**
 * @file The state ports of `@moebius/core` over one safetensors file.
 *
 * Tensor names are `<unit>/<tensor>`; versions, boxes and a hash of each unit's bytes are in the metadata, so the file
 * opens in Python as it is, and a byte that changed on the disk is found when its unit is read.
 * Units are held in memory until commit: the header, which comes first, needs all their sizes.
 */
import { createHash } from 'node:crypto';

import {
  assertStateUnit,
  MoebiusError,
  parseConfig,
  type StateReader,
  type StateUnit,
  type StateWriter,
  type Task,
  z,
} from '@moebius/core';

import { quote } from './header.ts';
import { type OpenOptions, openSafetensors, type TensorReader } from './reader.ts';
import { writeSafetensors, type WriteOptions } from './writer.ts';

/** The metadata key of the directory of units. */
const DIRECTORY_KEY = 'moebius.units';

const boxSchema = z.strictObject({ globalShape: z.array(z.int().min(0)), offset: z.array(z.int().min(0)) });
const directorySchema = z.array(
  z.strictObject({
    id: z.string().min(1),
    version: z.int().min(0),
    sha256: z.string().optional(),
    tensors: z.array(z.strictObject({ name: z.string(), box: boxSchema.optional() })),
  }),
);
type Directory = z.infer<typeof directorySchema>;

/** A reader that holds a file open. */
export interface StateFileReader extends StateReader {
  /** Lets go of the file. */
  close(): void;
  /** The same, for `using`. */
  [Symbol.dispose](): void;
}

/* oxlint-disable require-yield -- these calls block; a task may yield nothing */

/**
 * Writes a state into one file. Bytes are copied at `put`; the file appears, whole, at `commit`.
 *
 * @param path - of the file
 */
export function createStateFileWriter(
  path: string,
  options: Pick<WriteOptions, 'fileSystem'> = {},
): StateWriter {
  let open: { metadata: Readonly<Record<string, string>>; units: Map<string, StateUnit> } | undefined;
  const opened = (action: string): NonNullable<typeof open> => {
    if (open !== undefined) return open;
    throw new MoebiusError({
      code: 'checkpoint',
      message: `${path}: must begin before ${action}, got no begin`,
    });
  };
  return {
    *begin(metadata = {}): Task<void> {
      if (open !== undefined || Object.hasOwn(metadata, DIRECTORY_KEY)) {
        const got = open === undefined ? `metadata ${DIRECTORY_KEY}, which is reserved` : 'a second begin';
        throw new MoebiusError({ code: 'checkpoint', message: `${path}: must begin once, got ${got}` });
      }
      open = { metadata: { ...metadata }, units: new Map() };
    },
    *put(unit): Task<void> {
      const { units } = opened('put');
      assertStateUnit(unit);
      if (units.has(unit.id)) {
        throw new MoebiusError({
          code: 'checkpoint',
          message: `${path}: each unit must be put once, got ${quote(unit.id)} again`,
        });
      }
      units.set(unit.id, copyUnit(unit));
    },
    *commit(): Task<void> {
      const { metadata, units } = opened('commit');
      const tensors = [...units.values()].flatMap((unit) =>
        Object.entries(unit.tensors).map(([name, { dtype, shape, bytes }]) => ({
          name: fileName(unit.id, name),
          dtype,
          shape,
          bytes,
        })),
      );
      const directory = JSON.stringify([...units.values()].map(describeUnit));
      writeSafetensors(path, tensors, { ...options, metadata: { ...metadata, [DIRECTORY_KEY]: directory } });
      open = undefined;
    },
    *abort(): Task<void> {
      open = undefined;
    },
  };
}

/**
 * Opens a state that {@link createStateFileWriter} wrote.
 *
 * @throws `io`, `format` or `limit` when the file is not readable; `checkpoint` when it holds no state.
 */
export function openStateFile(path: string, options: OpenOptions = {}): StateFileReader {
  const file = openSafetensors(path, options);
  try {
    return createStateReader(path, file, parseDirectory(path, file));
  } catch (error) {
    file.close();
    throw error;
  }
}

function createStateReader(path: string, file: TensorReader, directory: Directory): StateFileReader {
  const byId = new Map(directory.map((unit) => [unit.id, unit]));
  const sizeOf = (unit: Directory[number]): number =>
    unit.tensors.reduce((sum, { name }) => {
      const { begin, end } = file.info(fileName(unit.id, name));
      return sum + end - begin;
    }, 0);
  return {
    *metadata(): Task<{ readonly [key: string]: string }> {
      return Object.fromEntries([...file.metadata].filter(([key]) => key !== DIRECTORY_KEY));
    },
    *units(): ReturnType<StateReader['units']> {
      return directory.map((unit) => ({ id: unit.id, version: unit.version, byteLength: sizeOf(unit) }));
    },
    *read(id): Task<StateUnit> {
      const unit = byId.get(id);
      if (unit === undefined) {
        throw new MoebiusError({
          code: 'checkpoint',
          message: `${path}: unit must be one of the ${byId.size} saved, got ${quote(id)}`,
          details: { id, units: byId.size },
        });
      }
      const entries = unit.tensors.map(({ name, box }) => {
        const { dtype, shape } = file.info(fileName(id, name));
        const tensor = { dtype, shape, bytes: file.readBytes(fileName(id, name)) };
        return [name, box === undefined ? tensor : { ...tensor, box }];
      });
      const state = {
        id,
        version: unit.version,
        tensors: Object.fromEntries(entries) as StateUnit['tensors'],
      };
      assertIntact(path, state, unit.sha256);
      return state;
    },
    close: () => file.close(),
    [Symbol.dispose]: () => file.close(),
  };
}
/* oxlint-enable require-yield */

function parseDirectory(path: string, file: TensorReader): Directory {
  const text = file.metadata.get(DIRECTORY_KEY);
  try {
    if (text === undefined) throw new Error(`no metadata ${DIRECTORY_KEY}`);
    const directory = parseConfig(directorySchema, JSON.parse(text), DIRECTORY_KEY);
    const listed = directory.flatMap((unit) => unit.tensors.map(({ name }) => fileName(unit.id, name)));
    for (const name of listed) file.info(name);
    const isExact = listed.length === file.names().length && new Set(listed).size === listed.length;
    if (!isExact || new Set(directory.map(({ id }) => id)).size !== directory.length) {
      throw new Error('units that do not cover the tensors exactly once');
    }
    return directory;
  } catch (cause) {
    const got = cause instanceof Error ? cause.message : String(cause);
    throw new MoebiusError({
      code: 'checkpoint',
      message: `${path}: must hold a state, got ${got}`,
      details: { path },
      cause,
    });
  }
}

function describeUnit(unit: StateUnit): Directory[number] {
  const tensors = Object.entries(unit.tensors).map(([name, { box }]) => {
    if (box === undefined) return { name };
    return { name, box: { globalShape: [...box.globalShape], offset: [...box.offset] } };
  });
  return { id: unit.id, version: unit.version, sha256: hashUnit(unit), tensors };
}

/** Hash of all bytes of a unit, tensor by tensor, lengths included. */
function hashUnit({ tensors }: StateUnit): string {
  const hash = createHash('sha256');
  for (const [name, { bytes }] of Object.entries(tensors))
    hash.update(`${name}:${bytes.length}:`).update(bytes);
  return hash.digest('hex');
}

/** Files without hashes are read as they are: they were written before there were any. */
function assertIntact(path: string, unit: StateUnit, expected: string | undefined): void {
  if (expected === undefined) return;
  const got = hashUnit(unit);
  if (got === expected) return;
  throw new MoebiusError({
    code: 'checkpoint',
    message: `${path}: unit ${quote(unit.id)} must have the bytes it was saved with, got others: sha256 ${got.slice(0, 12)}… where ${expected.slice(0, 12)}… was written (the file is damaged: restore a copy)`,
    details: { path, id: unit.id, expected, got },
  });
}

function copyUnit(unit: StateUnit): StateUnit {
  const entries = Object.entries(unit.tensors).map(([name, tensor]) => [
    name,
    { ...tensor, shape: [...tensor.shape], bytes: tensor.bytes.slice() },
  ]);
  return { id: unit.id, version: unit.version, tensors: Object.fromEntries(entries) as StateUnit['tensors'] };
}

function fileName(unit: string, tensor: string): string {
  return `${unit}/${tensor}`;
}
