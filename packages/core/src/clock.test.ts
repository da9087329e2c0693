import { describe, expect, it } from 'vitest';

import { createManualClock, throwIfAborted } from './clock.ts';
import { isMoebiusError } from './errors.ts';

describe('createManualClock', () => {
  it('moves only when told to, and never back', () => {
    const clock = createManualClock(10);
    expect(clock.nowMs()).toBe(10);
    clock.advance(5);
    clock.advance(0);
    expect(clock.nowMs()).toBe(15);
    expect(() => clock.advance(-1)).toThrow('clock: must advance by at least 0 ms, got -1');
    expect(() => clock.advance(NaN)).toThrow(/got NaN/);
    expect(createManualClock().nowMs()).toBe(0);
  });
});

describe('throwIfAborted', () => {
  it('does nothing without a signal or before the abort', () => {
    expect(() => throwIfAborted(undefined, 'save')).not.toThrow();
    expect(() => throwIfAborted(new AbortController().signal, 'save')).not.toThrow();
  });

  it('throws with the reason as cause', () => {
    const controller = new AbortController();
    controller.abort('shutdown');
    try {
      throwIfAborted(controller.signal, 'save');
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error, 'aborted') && error.cause).toBe('shutdown');
      expect(String(error)).toContain('save: must not be aborted');
    }
  });
});
