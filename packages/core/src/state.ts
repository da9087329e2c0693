/**
 * @file Ports that move state in and out as bytes: parameters, moments, counters, whatever a checkpoint holds.
 *
 * The piece that moves is a *unit* (one expert, one layer's attention, the data loader's place): a few named tensors
 * with one version. Writers are `begin`, `put`…, `commit` or `abort`: readers see all of a commit or nothing of it.
 * All calls are tasks, so that memory and files, blocking and not, have one interface.
 */
import { byteLength, type DType } from './dtype.ts';
import { MoebiusError } from './errors.ts';
import type { Task } from './task.ts';

/** Where a piece of a sharded tensor belongs in the whole one. */
export interface TensorBox {
  /** Shape of the whole tensor. */
  readonly globalShape: readonly number[];
  /** First element of the piece along each dimension; the piece's own shape is its extent. */
  readonly offset: readonly number[];
}

/** A tensor as bytes: little-endian, row-major, packed. */
export interface StateTensor {
  /** Element type. */
  readonly dtype: DType;
  /** Shape of this piece. */
  readonly shape: readonly number[];
  /** Exactly the bytes of `dtype` and `shape`. */
  readonly bytes: Uint8Array;
  /** For a piece of a sharded tensor; absent for a whole one. */
  readonly box?: TensorBox;
}

/** What is known of a unit without reading it. */
export interface UnitSummary {
  /** Unique within a state, for example `layers.3.experts.17`. */
  readonly id: string;
  /** Grows whenever the unit changes; a non-negative safe integer. */
  readonly version: number;
  /** Bytes of all its tensors. */
  readonly byteLength: number;
}

/** Tensors that are saved and loaded together. */
export interface StateUnit {
  /** Unique within a state. */
  readonly id: string;
  /** Grows whenever the unit changes; a non-negative safe integer. */
  readonly version: number;
  /** Tensors by name. */
  readonly tensors: { readonly [name: string]: StateTensor };
}

/** Writes one state. One `begin`, any number of `put`s, one `commit` or `abort`. */
export interface StateWriter {
  /** Starts. `metadata` is kept with the state. */
  begin(metadata?: { readonly [key: string]: string }): Task<void>;
  /** Adds a unit. Bytes are borrowed until the task ends. */
  put(unit: StateUnit): Task<void>;
  /** Makes everything that was put visible and durable, at once. */
  commit(): Task<void>;
  /** Drops everything that was put. Allowed at any time, and more than once. */
  abort(): Task<void>;
}

/** Reads one committed state. */
export interface StateReader {
  /** What `begin` was given. */
  metadata(): Task<{ readonly [key: string]: string }>;
  /** Every unit, in the order they were put. */
  units(): Task<readonly UnitSummary[]>;
  /** One unit; caller owns the bytes. Throws `checkpoint` when there is none of this id. */
  read(id: string): Task<StateUnit>;
}

/**
 * Checks a unit's sizes, boxes and version.
 *
 * @throws `checkpoint` naming unit and tensor.
 */
export function assertStateUnit(unit: StateUnit): void {
  if (unit.id === '') throw broken('state unit', 'must have a name', 'an empty id');
  if (!Number.isSafeInteger(unit.version) || unit.version < 0) {
    throw broken(`unit "${unit.id}"`, 'version must be a non-negative safe integer', String(unit.version));
  }
  for (const [name, tensor] of Object.entries(unit.tensors))
    assertTensor(`unit "${unit.id}", tensor "${name}"`, tensor);
}

/** Bytes of all tensors of a unit. */
export function unitByteLength(unit: StateUnit): number {
  return Object.values(unit.tensors).reduce((sum, tensor) => sum + tensor.bytes.byteLength, 0);
}

function assertTensor(subject: string, tensor: StateTensor): void {
  const expected = byteLength(tensor.dtype, tensor.shape);
  const form = `${tensor.dtype} [${tensor.shape.join(', ')}]`;
  if (expected === undefined) throw broken(subject, 'shape must be valid and fill whole bytes', form);
  if (tensor.bytes.byteLength !== expected) {
    throw broken(subject, `must be ${expected} bytes for ${form}`, String(tensor.bytes.byteLength));
  }
  const { box } = tensor;
  if (box === undefined) return;
  const fits =
    box.globalShape.length === tensor.shape.length &&
    box.offset.length === tensor.shape.length &&
    tensor.shape.every((size, axis) => {
      const offset = box.offset[axis] ?? -1;
      const whole = box.globalShape[axis] ?? -1;
      return (
        Number.isSafeInteger(offset) && Number.isSafeInteger(whole) && offset >= 0 && offset + size <= whole
      );
    });
  if (fits) return;
  throw broken(
    subject,
    'box must hold the piece inside the whole tensor',
    `${form} at [${box.offset.join(', ')}] of [${box.globalShape.join(', ')}]`,
  );
}

function broken(subject: string, expectation: string, got: string): MoebiusError {
  return new MoebiusError({
    code: 'checkpoint',
    message: `${subject}: ${expectation}, got ${got}`,
    details: { subject, got },
  });
}
