/**
 * @file A binary heap: the next item by a given order. Ties are the order's business: give it a total order and the
 * sequence of pops does not depend on the sequence of pushes.
 */

/** A binary heap over items of one type. */
export interface PriorityHeap<T> {
  /** How many items are held. */
  readonly size: number;
  /** Adds an item, O(log n). */
  push(item: T): void;
  /** Removes and returns the first item, or undefined when empty; O(log n). */
  pop(): T | undefined;
}

/** An empty heap in which `isBefore(a, b)` says that `a` is popped first. */
export function createPriorityHeap<T>(isBefore: (a: T, b: T) => boolean): PriorityHeap<T> {
  const items: T[] = [];
  const sink = (item: T): void => {
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      const left = items[child];
      if (left === undefined) break;
      const right = items[child + 1];
      let first = left;
      if (right !== undefined && isBefore(right, left)) {
        first = right;
        child += 1;
      }
      if (!isBefore(first, item)) break;
      items[index] = first;
      index = child;
    }
    items[index] = item;
  };
  return {
    get size() {
      return items.length;
    },
    push(item) {
      let index = items.length;
      while (index > 0) {
        const parentIndex = (index - 1) >> 1;
        const parent = items[parentIndex] as T;
        if (!isBefore(item, parent)) break;
        items[index] = parent;
        index = parentIndex;
      }
      items[index] = item;
    },
    pop() {
      const first = items[0];
      const last = items.pop();
      if (last !== undefined && items.length > 0) sink(last);
      return first;
    },
  };
}
