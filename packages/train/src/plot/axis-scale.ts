/** @file Axes: which values get a tick, and where a value stands. */

/** An axis. */
export interface AxisScale {
  readonly low: number;
  readonly high: number;
  /** Round values between `low` and `high`, ascending. */
  readonly ticks: readonly number[];
  /** Share of the way from low to high, 0 to 1 for values of the axis. */
  at(value: number): number;
}

/**
 * A linear axis that begins and ends with a tick.
 *
 * @param values - what must fit; none gives 0 to 1
 * @param options - `count`: about how many ticks (default 5); `low`: a value the axis must reach down to
 */
export function linearScale(
  values: readonly number[],
  options: { readonly count?: number; readonly low?: number } = {},
): AxisScale {
  const { count = 5 } = options;
  let [low, high] = extent(values);
  low = Math.min(low, options.low ?? low);
  // A flat line stands in the middle.
  if (high - low <= Math.abs(high) * 1e-9) {
    const room = high === 0 ? 1 : Math.abs(high) / 2;
    [low, high] = [options.low ?? low - room, high + room];
  }
  const spacing = roundSpacing((high - low) / count);
  const first = Math.floor(low / spacing + 1e-9);
  const last = Math.ceil(high / spacing - 1e-9);
  const ticks = Array.from({ length: last - first + 1 }, (_, at) => (first + at) * spacing);
  const [begin, end] = [first * spacing, last * spacing];
  return { low: begin, high: end, ticks, at: (value) => (value - begin) / (end - begin) };
}

/** Smallest and largest, without a spread: curves are long. */
function extent(values: readonly number[]): [number, number] {
  if (values.length === 0) return [0, 1];
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [
    Infinity,
    -Infinity,
  ] as [number, number]);
}

/** The next of 1, 2, 2.5 or 5 times a power of ten. */
function roundSpacing(spacing: number): number {
  const power = 10 ** Math.floor(Math.log10(spacing));
  const factor = [1, 2, 2.5, 5, 10].find((candidate) => candidate * power >= spacing * (1 - 1e-9)) ?? 10;
  return factor * power;
}

/**
 * Labels of ticks, all with the same unit and as many digits as tell them apart.
 *
 * @returns one text per tick: `0.5`, `12 k`, `1.5 M`, `2e-4`
 */
export function tickLabels(ticks: readonly number[]): string[] {
  const largest = Math.max(...ticks.map(Math.abs));
  if (largest === 0) return ticks.map(() => '0');
  const spacing = Math.abs((ticks[1] ?? largest) - (ticks[0] ?? 0)) || largest;
  if (largest < 0.01) {
    const power = Math.floor(Math.log10(largest));
    const digits = digitsFor(spacing / 10 ** power);
    return ticks.map((tick) => (tick === 0 ? '0' : `${(tick / 10 ** power).toFixed(digits)}e${power}`));
  }
  const [unit, suffix] =
    largest >= 1e9 ? [1e9, ' G'] : largest >= 1e6 ? [1e6, ' M'] : largest >= 1e4 ? [1e3, ' k'] : [1, ''];
  const digits = digitsFor(spacing / unit);
  return ticks.map((tick) => (tick === 0 ? '0' : `${(tick / unit).toFixed(digits)}${suffix}`));
}

/** Decimals that show a spacing of 1, 2, 2.5 or 5 times a power of ten. */
function digitsFor(spacing: number): number {
  for (let digits = 0; digits < 12; digits += 1) {
    const scaled = spacing * 10 ** digits;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return digits;
  }
  return 12;
}
