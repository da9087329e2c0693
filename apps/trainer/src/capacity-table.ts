/** @file The table of `moebius eval --capacity`. */
import type { CapacityMeasurement } from '@moebius/train';

import { formatTable } from './terminal/table.ts';

/** The model without a capacity, then a row for each setting. */
export function formatCapacityTable(measurements: readonly CapacityMeasurement[]): string[] {
  const head = [
    'capacity',
    'loss',
    'difference',
    '95 % interval',
    'dropped',
    'added',
    'orphans',
    'peak/mean',
    'layers',
    'speed-up',
  ];
  return formatTable([head, ...measurements.map((measurement, at) => rowOf(measurement, at === 0))], {
    indent: 0,
  });
}

function rowOf(measurement: CapacityMeasurement, isDropless: boolean): string[] {
  const { name, loss, difference, peak, layerSeconds, speedUp } = measurement;
  const { dropRatio, addedRatio, orphanRatio } = measurement;
  const { interval } = difference;
  const range = interval === null ? '' : `${signed(interval[0])} … ${signed(interval[1])}`;
  return [
    name,
    loss.toFixed(4),
    isDropless ? '' : signed(difference.difference),
    isDropless ? '' : range,
    isDropless ? '' : percent(dropRatio),
    isDropless ? '' : percent(addedRatio),
    isDropless ? '' : percent(orphanRatio),
    peak.toFixed(2),
    layerSeconds === null ? '' : `${(1000 * layerSeconds).toFixed(2)} ms`,
    isDropless || speedUp === null ? '' : `${speedUp.toFixed(2)}×`,
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function signed(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(4)}`;
}
