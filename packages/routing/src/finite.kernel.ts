/** @file Finding numbers that are none. */

/** The first entry that is NaN or infinite, or -1. */
export function firstNotFinite(values: ArrayLike<number>): number {
  for (let i = 0; i < values.length; i += 1) if (!Number.isFinite(values[i]!)) return i;
  return -1;
}

/** The first entry below 0 or from `limit` on, or -1. */
export function firstOutside(values: ArrayLike<number>, limit: number): number {
  for (let i = 0; i < values.length; i += 1) if (!(values[i]! >= 0 && values[i]! < limit)) return i;
  return -1;
}
