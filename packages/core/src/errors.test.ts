import { describe, expect, it } from 'vitest';

import { isMoebiusError, MoebiusError } from './errors.ts';

describe('MoebiusError', () => {
  it('keeps code, message, details and cause', () => {
    const cause = new Error('disk');
    const error = new MoebiusError({
      code: 'io',
      message: 'file: must be readable, got EIO',
      details: { at: 3 },
      cause,
    });
    expect(error).toBeInstanceOf(Error);
    expect(error.name).toBe('MoebiusError');
    expect(error.code).toBe('io');
    expect(error.message).toBe('file: must be readable, got EIO');
    expect(error.details).toEqual({ at: 3 });
    expect(error.cause).toBe(cause);
  });

  it('has empty details and no own cause when none are given', () => {
    const error = new MoebiusError({ code: 'data', message: 'x' });
    expect(error.details).toEqual({});
    expect(Object.hasOwn(error, 'cause')).toBe(false);
  });

  it('has details that survive JSON', () => {
    const details = { numbers: [1, 2], nested: { name: 'a', flag: true, none: null } };
    const error = new MoebiusError({ code: 'shape', message: 'x', details });
    expect(JSON.parse(JSON.stringify(error.details))).toEqual(details);
  });
});

describe('isMoebiusError', () => {
  it('asks for the code when one is given', () => {
    const error = new MoebiusError({ code: 'shape', message: 'x' });
    expect(isMoebiusError(error)).toBe(true);
    expect(isMoebiusError(error, 'shape')).toBe(true);
    expect(isMoebiusError(error, 'io')).toBe(false);
  });

  it('recognises an error of another copy of this package by the registered symbol', () => {
    const foreign = Object.assign(new Error('x'), { code: 'io', details: {} });
    Object.defineProperty(foreign, Symbol.for('moebius.error'), { value: true });
    expect(isMoebiusError(foreign, 'io')).toBe(true);
  });

  it.each([undefined, null, 0, 'error', {}, new Error('x'), { code: 'io' }])('says no to %s', (value) => {
    expect(isMoebiusError(value)).toBe(false);
  });
});
