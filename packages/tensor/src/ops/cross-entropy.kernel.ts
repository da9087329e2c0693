/**
 * @file Integer loops over cross-entropy targets. No tensors.
 */
import { MoebiusError } from '@moebius/core';

/** Targets made ready for the engine. */
export interface TargetCount {
  /** How many targets are counted. */
  readonly count: number;
  /** float32 `[T]`: 1 where counted, else 0. */
  readonly mask: Float32Array;
  /** int32 `[T]`: the target, 0 where ignored. */
  readonly classes: Int32Array;
  /** int32 `[T]`: `t·V + target`. */
  readonly places: Int32Array;
}

/**
 * Splits targets into counted and ignored ones.
 *
 * @param targets - int32 `[T]`
 * @throws `data` on a target outside `[0, V)` that is not `ignoreIndex`
 */
export function countTargets(targets: Int32Array, ignoreIndex: number, vocabulary: number): TargetCount {
  const rows = targets.length;
  const mask = new Float32Array(rows);
  const classes = new Int32Array(rows);
  const places = new Int32Array(rows);
  let count = 0;
  for (let t = 0; t < rows; t += 1) {
    const target = targets[t]!;
    const ignored = target === ignoreIndex;
    if (!ignored && (target < 0 || target >= vocabulary)) {
      throw new MoebiusError({
        code: 'data',
        message: `targets[${t}]: must be in [0, ${vocabulary}) or ignoreIndex ${ignoreIndex}, got ${target}`,
        details: { place: t, target, vocabulary, ignoreIndex },
      });
    }
    mask[t] = ignored ? 0 : 1;
    classes[t] = ignored ? 0 : target;
    places[t] = t * vocabulary + classes[t]!;
    count += ignored ? 0 : 1;
  }
  return { count, mask, classes, places };
}
