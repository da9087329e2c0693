/**
 * @file The matmul rate of this machine, measured once and kept in the per-user cache: what a model's speed is
 * compared with.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';

import type { Clock } from '@moebius/core';
import { measureMatmulRate } from '@moebius/tensor';
import type { Engine } from '@moebius/tensor';

/** What {@link findMatmulRate} needs. */
export interface MatmulRateOptions {
  /** The running engine. */
  readonly engine: Engine;
  /** The per-user cache. */
  readonly cacheFolder: string;
  /** What times the products. */
  readonly clock: Clock;
  /** Measure even when it is known, and keep the higher rate: the lower one was taken on a busy machine. Default false. */
  readonly anew?: boolean;
}

/**
 * The rate of float32 matrix products on this processor, engine and number of threads, in operations per second.
 *
 * Measured when it is not in the cache yet: the event loop is blocked for 0.3 s then.
 *
 * @returns undefined when it is not known and the clock stands still
 */
export async function findMatmulRate(options: MatmulRateOptions): Promise<number | undefined> {
  const { engine, cacheFolder, clock, anew = false } = options;
  const file = rateFile(engine, cacheFolder);
  const known = await readRate(file);
  if (known !== undefined && !anew) return known;
  const measured = measureMatmulRate(clock)?.flopsPerSecond;
  if (measured === undefined || (known !== undefined && known >= measured)) return known;
  await keepRate(file, { ...describe(engine), flopsPerSecond: measured });
  return measured;
}

/** Whatever the rate depends on. */
function describe({ name, threads, fused, versions }: Engine): object {
  const processors = cpus();
  return {
    processor: processors[0]?.model ?? 'unknown',
    processors: processors.length,
    engine: name,
    threads,
    fused,
    versions,
  };
}

function rateFile(engine: Engine, cacheFolder: string): string {
  const key = createHash('sha256')
    .update(JSON.stringify(describe(engine)))
    .digest('hex')
    .slice(0, 16);
  return join(cacheFolder, 'matmul-rates', `${engine.name}-${engine.threads}-${key}.json`);
}

/** Whatever is not a rate is none: it is measured again. */
async function readRate(file: string): Promise<number | undefined> {
  try {
    const { flopsPerSecond } = JSON.parse(await readFile(file, 'utf8')) as { flopsPerSecond?: unknown };
    const isRate =
      typeof flopsPerSecond === 'number' && Number.isFinite(flopsPerSecond) && flopsPerSecond > 0;
    return isRate ? flopsPerSecond : undefined;
  } catch {
    return undefined;
  }
}

/** A cache that cannot be written costs a measurement at the next start, no more. */
async function keepRate(file: string, record: object): Promise<void> {
  try {
    await mkdir(join(file, '..'), { recursive: true });
    await writeFile(`${file}.partial`, `${JSON.stringify(record, null, 1)}\n`);
    await rename(`${file}.partial`, file);
  } catch {
    // Not kept.
  }
}
