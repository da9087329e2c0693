/** @file What every test of tensors is held to. */
import { countTensors } from '@moebius/tensor';
import { afterEach, beforeEach, expect } from 'vitest';

/** After each test of the file as many tensors live as before it. */
export function checkLeaks(): void {
  let before = 0;
  beforeEach(() => {
    before = countTensors();
  });
  afterEach(() => {
    expect(countTensors()).toBe(before);
  });
}
