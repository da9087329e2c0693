/**
 * @file Reads the fields of an untrusted object and gathers every fault, so that all are reported at once.
 */
import { configurationError, describeValue, type Fault } from '@moebius/core';

/** Bounds and default of an integer field. */
export interface IntegerRule {
  /** Smallest value. Default 1. */
  readonly min?: number;
  /** Largest value. */
  readonly max: number;
  /** Value when absent; without it the field is required. */
  readonly fallback?: number;
}

/** Reads fields and remembers what was wrong with them. A faulty field reads as a harmless value. */
export interface FaultList {
  /** The field as it stands, `undefined` when absent. */
  raw(key: string): unknown;
  /** An integer within bounds. */
  integer(key: string, rule: IntegerRule): number;
  /** A list of integers from 0. */
  integers(key: string, rule: { max: number; fallback: readonly number[] }): readonly number[];
  /** An integer from 0, or null when absent or null. */
  optionalInteger(key: string, max: number): number | null;
  /** A finite number. */
  number(key: string, rule: { min: number; fallback: number }): number;
  /** A boolean. */
  boolean(key: string, fallback: boolean): boolean;
  /** Notes a fault: *key: expectation, got value (remedy)*. */
  add(key: string, expectation: string, got: unknown, remedy?: string): void;
  /** Whether nothing is wrong so far. */
  none(): boolean;
  /** @throws `configuration` with every fault noted. */
  throwIfAny(): void;
}

/**
 * Starts reading an untrusted value.
 *
 * @param subject - what messages call it
 * @param value - anything; not an object is a fault by itself
 */
export function createFaultList(subject: string, value: unknown): FaultList {
  const faults: Fault[] = [];
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  const fields = (isObject ? value : {}) as { readonly [key: string]: unknown };
  const add = (path: string, expectation: string, got: unknown, remedy?: string): void => {
    const fault = { path, expectation, got: describeValue(got) };
    faults.push(remedy === undefined ? fault : { ...fault, remedy });
  };
  const raw = (key: string): unknown => (Object.hasOwn(fields, key) ? fields[key] : undefined);
  const throwIfAny = (): void => {
    if (!isObject) {
      throw configurationError(subject, [
        { path: '', expectation: 'must be an object', got: describeValue(value) },
      ]);
    }
    if (faults.length > 0) throw configurationError(subject, faults);
  };
  return { raw, add, none: () => isObject && faults.length === 0, throwIfAny, ...fieldReaders(raw, add) };
}

type FieldReaders = Omit<FaultList, 'raw' | 'add' | 'none' | 'throwIfAny'>;

function fieldReaders(raw: FaultList['raw'], add: FaultList['add']): FieldReaders {
  const absent = (value: unknown): boolean => value === undefined || value === null;
  return {
    integer(key, { min = 1, max, fallback }) {
      const value = raw(key);
      if (absent(value) && fallback !== undefined) return fallback;
      if (isIntegerIn(value, min, max)) return value;
      add(key, `must be an integer from ${min} to ${max}`, value);
      return min;
    },
    integers(key, { max, fallback }) {
      const value = raw(key);
      if (absent(value)) return fallback;
      if (Array.isArray(value) && value.length <= max && value.every((item) => isIntegerIn(item, 0, max))) {
        return [...(value as number[])];
      }
      add(key, `must be a list of integers from 0 to ${max}`, value);
      return fallback;
    },
    optionalInteger(key, max) {
      const value = raw(key);
      if (absent(value)) return null;
      if (isIntegerIn(value, 0, max)) return value;
      add(key, `must be null or an integer from 0 to ${max}`, value);
      return null;
    },
    number(key, { min, fallback }) {
      const value = raw(key);
      if (absent(value)) return fallback;
      if (typeof value === 'number' && Number.isFinite(value) && value >= min) return value;
      add(key, min > 0 ? 'must be a positive number' : 'must be a number from 0', value);
      return fallback;
    },
    boolean(key, fallback) {
      const value = raw(key);
      if (absent(value)) return fallback;
      if (typeof value === 'boolean') return value;
      add(key, 'must be true or false', value);
      return fallback;
    },
  };
}

function isIntegerIn(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
}
