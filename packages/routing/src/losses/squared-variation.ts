/**
 * @file CV², the squared coefficient of variation: variance over squared mean. 0 when all are equal; E - 1 (population) when one has all.
 */

/** Which variance: over n, or over n - 1 as some trainers have it. */
export type Deviation = 'population' | 'sample';

/** CV² and its derivative by each value; both 0 where the mean is 0 or there is one value. */
export function squaredVariation(
  values: Float64Array,
  deviation: Deviation,
): { readonly value: number; readonly slopes: Float64Array } {
  const n = values.length;
  const divisor = deviation === 'population' ? n : n - 1;
  const mean = values.reduce((total, value) => total + value, 0) / n;
  if (mean === 0 || divisor === 0) return { value: 0, slopes: new Float64Array(n) };
  const variance = values.reduce((total, value) => total + (value - mean) ** 2, 0) / divisor;
  return {
    value: variance / mean ** 2,
    slopes: values.map(
      (value) => (2 * (value - mean)) / (divisor * mean ** 2) - (2 * variance) / (n * mean ** 3),
    ),
  };
}
