/**
 * @file What TensorBoard is shown of a record of metrics: every number in it, under its own name.
 */
import type { MetricRecord } from '@moebius/core';

import type { SummaryValue } from './event.ts';

/** How much is shown. */
export interface SummaryOptions {
  /** Whether the loads of experts are shown as a histogram, expert by expert. */
  readonly histograms: boolean;
}

/**
 * The values of a record.
 *
 * A number is a scalar under its name. An object of numbers is a scalar each, `name/key`. Layers are
 * `routing/layer_0/imbalance` and so on, with their loads as histogram.
 */
export function summaryValues(record: MetricRecord, { histograms }: SummaryOptions): SummaryValue[] {
  const { step: _step, 'routing/layers': layers = [], ...metrics } = record;
  const routing = layers.flatMap(({ layer, load, ...measures }) => {
    const name = `routing/layer_${layer}`;
    const loads = { tag: `${name}/load`, kind: 'counts' as const, counts: load };
    return [...scalars(name, measures), ...(histograms && load.length > 0 ? [loads] : [])];
  });
  return [...Object.entries(metrics).flatMap(([name, value]) => scalars(name, value)), ...routing];
}

function scalars(name: string, value: unknown): SummaryValue[] {
  if (typeof value === 'number') return [{ tag: name, kind: 'scalar', value }];
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([key, part]) => scalars(`${name}/${key}`, part));
}
