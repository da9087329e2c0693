import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { createPriorityHeap } from './priority-heap.ts';

describe('createPriorityHeap', () => {
  it('pops what sorting gives, with pushes in between', () => {
    const pushOrPop = fc.array(fc.option(fc.integer(), { nil: undefined }), { maxLength: 200 });
    fc.assert(
      fc.property(pushOrPop, (actions) => {
        const heap = createPriorityHeap<number>((a, b) => a < b);
        let held: number[] = [];
        for (const value of actions) {
          if (value !== undefined) {
            heap.push(value);
            held.push(value);
          } else {
            held = held.toSorted((a, b) => a - b);
            expect(heap.pop()).toBe(held.shift());
          }
          expect(heap.size).toBe(held.length);
        }
      }),
    );
  });
});
