/**
 * @file Central differences of a double-precision oracle: tight enough to judge float32 backwards at 1e-4.
 */

/** Options of {@link oracleDifferences}. */
export interface OracleDifferenceOptions {
  /** Step; default 1e-5: with double precision the error is about 1e-9. */
  readonly step?: number;
}

/**
 * Gradient of `Σ dy · oracle(inputs)` with respect to every number of every input.
 *
 * @param oracle - from flat inputs to a flat value, in double precision
 * @param inputs - flat, not changed
 * @param dy - flat, as long as the value
 * @returns one flat list per input
 */
export function oracleDifferences(
  oracle: (inputs: readonly (readonly number[])[]) => ArrayLike<number>,
  inputs: readonly (readonly number[])[],
  dy: ArrayLike<number>,
  options: OracleDifferenceOptions = {},
): number[][] {
  const { step = 1e-5 } = options;
  const total = (which: number, place: number, delta: number): number => {
    const moved = inputs.map((input, i) =>
      i === which ? input.map((value, j) => (j === place ? value + delta : value)) : input,
    );
    const value = oracle(moved);
    let sum = 0;
    for (let i = 0; i < dy.length; i += 1) sum += dy[i]! * value[i]!;
    return sum;
  };
  return inputs.map((input, which) =>
    input.map((_, place) => (total(which, place, step) - total(which, place, -step)) / (2 * step)),
  );
}
