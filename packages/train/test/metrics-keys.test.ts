/** @file The README's table of metrics says what is written, no more and no less. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { SkipEvent } from '../src/index.ts';
import { recordOf } from '../src/trainer/metrics-file.ts';
import { runToEnd, smallConfig, smallOptions, useWorkplace } from './small-run.ts';

const readme = readFileSync(join(import.meta.dirname, '../README.md'), 'utf8');

const place = useWorkplace();

/** Keys and the event each is of, from the table below a heading. */
function tableBelow(heading: string): { readonly [key: string]: string } {
  const section = readme.split(`\n${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const rows = [...section.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)];
  return Object.fromEntries(rows.map(([, key = '', event = '']) => [key, event.trim()]));
}

/** Slow to bring about in a run; its fields are all there is. */
const skip: SkipEvent = {
  kind: 'skip',
  step: 3,
  fraction: 0.5,
  reason: 'cross-entropy',
  layer: null,
  parameter: null,
  inRow: 1,
  total: 1,
  stepMs: 1,
};

/** Which event a record is of. */
function eventOf(record: object): string {
  if ('train/skipped_steps' in record) return 'skip';
  if ('train/loss' in record) return 'step';
  return 'eval/loss' in record ? 'evaluate' : 'end';
}

describe('metrics.jsonl', () => {
  it('has the keys of the README, each in the records of its event', async () => {
    const output = place.freshOutput();
    let now = 0;
    const options = smallOptions(place, {
      clock: { nowMs: () => ++now },
      matmulFlopsPerSecond: 1e12,
      residentBytes: () => 1,
    });
    const evaluation = { everySteps: 1, tokens: 100, finalTokens: 100 };
    await runToEnd(smallConfig(place, { output, evaluation, duration: { steps: 2 } }), options);
    const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
    const records = [...lines.map((line) => JSON.parse(line) as object), recordOf(skip)!];
    const written: { [key: string]: string } = {};
    for (const record of records) {
      const { step, ...metrics } = record as { readonly step?: number };
      expect(Number.isInteger(step)).toBe(true);
      for (const key of Object.keys(metrics)) {
        const events = (written[key] ?? '').split(', ').filter((event) => event !== '');
        written[key] = [...new Set([...events, eventOf(record)])].join(', ');
      }
    }
    written['step'] = 'every event';
    expect(tableBelow('## metrics.jsonl')).toEqual(written);
  });
});
