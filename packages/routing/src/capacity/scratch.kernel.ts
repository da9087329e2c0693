/**
 * @file Scratch space of the capacity planners: named typed arrays that grow and are reused. Nothing of it ever enters a plan.
 */

/** Views of reusable arrays. Contents are whatever the last use left. */
export interface CapacityScratch {
  /** Int32Array `[length]`. */
  int32(name: string, length: number): Int32Array;
  /** Float64Array `[length]`. */
  float64(name: string, length: number): Float64Array;
  /** Uint8Array `[length]`. */
  bytes(name: string, length: number): Uint8Array;
}

/** An empty scratch space. One planner at a time may use it. */
export function createCapacityScratch(): CapacityScratch {
  return {
    int32: growing((length) => new Int32Array(length)),
    float64: growing((length) => new Float64Array(length)),
    bytes: growing((length) => new Uint8Array(length)),
  };
}

function growing<A extends Int32Array | Float64Array | Uint8Array>(
  create: (length: number) => A,
): (name: string, length: number) => A {
  const held = new Map<string, A>();
  return (name, length) => {
    let array = held.get(name);
    if (array === undefined || array.length < length) {
      array = create(Math.max(length, 2 * (array?.length ?? 0)));
      held.set(name, array);
    }
    return (array.length === length ? array : array.subarray(0, length)) as A;
  };
}
