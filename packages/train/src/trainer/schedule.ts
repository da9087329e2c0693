/**
 * @file Learning-rate schedules as pure functions of where a run is: rise, then stay or fall.
 *
 *   cosine    floor + (1 - floor) (1 + cos(pi x)) / 2      x: share of the run behind warm-up
 *   linear    1 - (1 - floor) x
 *   constant  1
 *   wsd       1, then linear to the floor over the last `decayFraction` of the run (warm-up, stable, decay)
 */
import type { ScheduleConfig } from './train-config.ts';

/** Where a run is. */
export interface RunPosition {
  /** Steps done, 0 at first. */
  readonly step: number;
  /** Share of the run that is done, 0 at first; by steps, or by time when the run has a time budget. */
  readonly fraction: number;
  /** Steps of the whole run, when it is known. */
  readonly steps?: number | undefined;
}

const smallestRise = 0.01; // a run by time starts at fraction 0: its first step must move, too

/** The learning rate of the next step over the peak, in [0, 1]. */
export function scheduleFactor(schedule: ScheduleConfig, position: RunPosition): number {
  const rise = riseOf(schedule, position);
  if (rise < 1) return rise;
  const { floor } = schedule;
  const warmup = warmupShare(schedule, position);
  const x = Math.min(1, Math.max(0, (position.fraction - warmup) / Math.max(1e-9, 1 - warmup)));
  switch (schedule.kind) {
    case 'constant':
      return 1;
    case 'linear':
      return 1 - (1 - floor) * x;
    case 'cosine':
      return floor + ((1 - floor) * (1 + Math.cos(Math.PI * x))) / 2;
    case 'wsd': {
      const fallen =
        (position.fraction - (1 - schedule.decayFraction)) / Math.max(1e-9, schedule.decayFraction);
      return 1 - (1 - floor) * Math.min(1, Math.max(0, fallen));
    }
  }
}

/** How far warm-up has come: (step + 1) / steps of warm-up, so that the last warm-up step has the full rate. */
function riseOf(schedule: ScheduleConfig, { step, fraction, steps }: RunPosition): number {
  const {
    warmupFraction,
    warmupSteps = steps === undefined ? undefined : Math.round(warmupFraction * steps),
  } = schedule;
  if (warmupSteps !== undefined) return warmupSteps === 0 ? 1 : Math.min(1, (step + 1) / warmupSteps);
  if (warmupFraction === 0) return 1;
  return Math.min(1, Math.max(smallestRise, fraction / warmupFraction));
}

function warmupShare({ warmupSteps, warmupFraction }: ScheduleConfig, { steps }: RunPosition): number {
  if (warmupSteps === undefined) return warmupFraction;
  return steps === undefined ? 0 : Math.min(1, warmupSteps / steps);
}
