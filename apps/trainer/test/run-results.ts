/** @file What a run leaves, as far as it must not depend on when it was stopped: everything but times. */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** All names below a folder, and the content of what a run wrote there, without wall-clock fields. */
export function resultsOf(output: string): { readonly [name: string]: unknown } {
  const entries = readdirSync(output, { recursive: true, withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(output.length + 1))
    .toSorted();
  return Object.fromEntries(names.map((name) => [name, contentOf(output, name)]));
}

function contentOf(output: string, name: string): unknown {
  const bytes = readFileSync(join(output, name));
  if (name === 'metrics.jsonl') return timelessMetrics(bytes.toString());
  if (name === join('checkpoint', 'state.safetensors')) return timelessState(bytes);
  if (name === 'run.json') return { ...(JSON.parse(bytes.toString()) as object), output: null };
  return digest(bytes);
}

/** What depends on the clock and on the process. */
const measured = [
  'train/step_ms',
  'train/elapsed_ms',
  'train/tokens_per_second',
  'train/flops_per_second',
  'train/mfu',
  'memory/resident_bytes',
];

/** Metric records in order, without what depends on the clock and on the process. */
export function timelessMetrics(text: string): object[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const record = Object.entries(JSON.parse(line) as object);
      return Object.fromEntries(record.filter(([name]) => !measured.includes(name)));
    });
}

/** Header and tensors of a checkpoint; of the progress all but the time. */
function timelessState(bytes: Buffer): object {
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, end).toString()) as {
    [name: string]: object;
    __metadata__: { [key: string]: string };
  };
  const { __metadata__: metadata, ...tensors } = header;
  const { elapsedMs, ...progress } = JSON.parse(metadata['progress'] ?? '{}') as { elapsedMs: unknown };
  if (!(typeof elapsedMs === 'number' && elapsedMs > 0)) throw new Error(`elapsed: ${String(elapsedMs)}`);
  return { metadata: { ...metadata, progress }, tensors, data: digest(bytes.subarray(end)) };
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
