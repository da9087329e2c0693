/** @file Fewer points than a file has: a picture has about 400 columns for a curve. */

/** A point of a picture. */
export interface PlanePoint {
  readonly x: number;
  readonly y: number;
}

/** A stretch of a curve. */
export interface Stretch extends PlanePoint {
  /** Smallest value of the stretch. */
  readonly low: number;
  /** Largest value of the stretch. */
  readonly high: number;
}

/**
 * Joins neighbours until at most `count` stretches are left: `x` of the last point, mean, smallest and largest `y`.
 *
 * @param points - in the order of `x`
 * @param count - at least 1
 */
export function thinCurve(points: readonly PlanePoint[], count: number): Stretch[] {
  const length = Math.max(1, Math.ceil(points.length / count));
  const stretches: Stretch[] = [];
  for (let from = 0; from < points.length; from += length) {
    const part = points.slice(from, from + length);
    const values = part.map(({ y }) => y);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    stretches.push({
      x: part.at(-1)?.x ?? 0,
      y: mean,
      low: Math.min(...values),
      high: Math.max(...values),
    });
  }
  return stretches;
}
