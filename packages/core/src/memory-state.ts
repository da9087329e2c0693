/** @file A state held in memory: for tests, for hand-over inside a process, and as the plainest example of the ports. */
import { MoebiusError } from './errors.ts';
import {
  assertStateUnit,
  type StateReader,
  type StateUnit,
  type StateWriter,
  unitByteLength,
} from './state.ts';
import type { Task } from './task.ts';

/** A place that holds at most one committed state. */
export interface MemoryState {
  /** A new writer; its commit replaces what is held. */
  writer(): StateWriter;
  /** Reads what is committed now, unmoved by later commits. Throws `checkpoint` when nothing is. */
  reader(): StateReader;
}

interface Committed {
  readonly metadata: { readonly [key: string]: string };
  readonly units: ReadonlyMap<string, StateUnit>;
}

/** Makes an empty place. Bytes are copied on the way in and on the way out. */
export function createMemoryState(): MemoryState {
  let held: Committed | undefined;
  return {
    writer: () =>
      createWriter((state) => {
        held = state;
      }),
    reader(): StateReader {
      if (held === undefined) {
        throw new MoebiusError({
          code: 'checkpoint',
          message: 'memory state: must be committed to be read, got nothing',
        });
      }
      return createReader(held);
    },
  };
}

/* oxlint-disable require-yield -- memory never waits, and a task may yield nothing */
function createWriter(publish: (state: Committed) => void): StateWriter {
  let open: { metadata: { readonly [key: string]: string }; units: Map<string, StateUnit> } | undefined;
  const opened = (action: string): NonNullable<typeof open> => {
    if (open !== undefined) return open;
    throw new MoebiusError({
      code: 'checkpoint',
      message: `state writer: must begin before ${action}, got no begin`,
    });
  };
  return {
    *begin(metadata = {}): Task<void> {
      if (open !== undefined) {
        throw new MoebiusError({
          code: 'checkpoint',
          message: 'state writer: must begin once, got a second begin',
        });
      }
      open = { metadata: { ...metadata }, units: new Map() };
    },
    *put(unit): Task<void> {
      const { units } = opened('put');
      assertStateUnit(unit);
      if (units.has(unit.id)) {
        throw new MoebiusError({
          code: 'checkpoint',
          message: `state writer: each unit must be put once, got "${unit.id}" again`,
          details: { id: unit.id },
        });
      }
      units.set(unit.id, copyUnit(unit));
    },
    *commit(): Task<void> {
      publish(opened('commit'));
      open = undefined;
    },
    *abort(): Task<void> {
      open = undefined;
    },
  };
}

function createReader(state: Committed): StateReader {
  return {
    *metadata(): Task<{ readonly [key: string]: string }> {
      return { ...state.metadata };
    },
    *units(): ReturnType<StateReader['units']> {
      return [...state.units.values()].map((unit) => ({
        id: unit.id,
        version: unit.version,
        byteLength: unitByteLength(unit),
      }));
    },
    *read(id): Task<StateUnit> {
      const unit = state.units.get(id);
      if (unit !== undefined) return copyUnit(unit);
      throw new MoebiusError({
        code: 'checkpoint',
        message: `state reader: unit must be one of the ${state.units.size} saved, got "${id}"`,
        details: { id, units: state.units.size },
      });
    },
  };
}
/* oxlint-enable require-yield */

function copyUnit(unit: StateUnit): StateUnit {
  const entries = Object.entries(unit.tensors).map(([name, tensor]) => [
    name,
    { ...tensor, shape: [...tensor.shape], bytes: tensor.bytes.slice() },
  ]);
  return { id: unit.id, version: unit.version, tensors: Object.fromEntries(entries) as StateUnit['tensors'] };
}
