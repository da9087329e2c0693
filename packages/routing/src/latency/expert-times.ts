/**
 * @file How long one expert takes, as a measured table: rows in, seconds out.
 */
import { MoebiusError, parseConfig, z } from '@moebius/core';

/** Seconds of one expert by number of rows. Plain data: measure it once on a machine, keep it, send it. */
export interface ExpertTimes {
  /** Numbers of rows that were measured, ascending, at least 1. */
  readonly rows: readonly number[];
  /** Seconds for each of them, never falling. */
  readonly seconds: readonly number[];
}

const schema: z.ZodType<ExpertTimes> = z
  .strictObject({
    rows: z.array(z.int().min(1)).min(1),
    seconds: z.array(z.number().min(0)).min(1),
  })
  .superRefine(({ rows, seconds }, context) => {
    const add = (path: (string | number)[], message: string): void =>
      context.addIssue({ code: 'custom', path, message });
    if (rows.length !== seconds.length)
      add(['seconds'], `must have an entry for each of ${rows.length} rows entries`);
    for (let at = 1; at < rows.length; at += 1) {
      const before = rows[at - 1] ?? 0;
      if ((rows[at] ?? 0) <= before) add(['rows', at], `must be above the entry before, ${before}`);
    }
    for (let at = 1; at < seconds.length; at += 1) {
      const before = seconds[at - 1] ?? 0;
      if ((seconds[at] ?? 0) < before) add(['seconds', at], `must be at least the entry before, ${before}`);
    }
  });

/**
 * Checks a table of expert times.
 *
 * @param value - `{ rows, seconds }`, for example from a file
 * @returns the table, frozen
 * @throws `configuration` listing every fault at once
 * @example
 * ```ts
 * const times = parseExpertTimes({ rows: [1, 64, 1024], seconds: [2e-5, 4e-5, 5e-4] });
 * ```
 */
export function parseExpertTimes(value: unknown): ExpertTimes {
  return Object.freeze(parseConfig(schema, value, 'expert times'));
}

/**
 * Seconds of one expert for a number of rows: 0 without rows, the first entry up to its rows, straight lines between entries, and in
 * proportion to the rows behind the last one. Never falls with more rows.
 *
 * @param times - a checked table
 * @param rows - at least 0
 * @throws `configuration` for a negative number of rows or NaN
 */
export function expertSeconds(times: ExpertTimes, rows: number): number {
  if (!(rows >= 0)) {
    throw new MoebiusError({
      code: 'configuration',
      message: `expert rows: must be at least 0, got ${rows} (count the pairs of the expert)`,
      details: { rows },
    });
  }
  if (rows === 0) return 0;
  const above = times.rows.findIndex((entry) => entry >= rows);
  if (above === 0) return times.seconds[0] ?? 0;
  if (above < 0) {
    const last = times.rows.length - 1;
    return ((times.seconds[last] ?? 0) * rows) / (times.rows[last] ?? 1);
  }
  const [low = 0, high = 1] = [times.rows[above - 1], times.rows[above]];
  const [from = 0, to = 0] = [times.seconds[above - 1], times.seconds[above]];
  return from + ((to - from) * (rows - low)) / (high - low);
}
