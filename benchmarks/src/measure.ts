/**
 * @file How every benchmark measures: one at a time on the machine (a lock), interleaved repetitions, medians,
 * and a result file that names hardware, versions, seed and command.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as rest } from 'node:timers/promises';

/** Seconds of one repetition of one contestant. */
export type Repetition = () => number | Promise<number>;

/** Median, minimum and maximum of repetitions, in the unit of the samples. */
export interface Spread {
  readonly median: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly samples: number;
}

/** Median and range of samples. */
export function spreadOf(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
  return {
    median,
    minimum: sorted[0] ?? Number.NaN,
    maximum: sorted.at(-1) ?? Number.NaN,
    samples: sorted.length,
  };
}

/**
 * Runs contestants in turn, `warmUp` rounds unrecorded and then `rounds` recorded ones: A B C, A B C, …
 * so that drift of the machine hits all alike. Before each turn the machine rests for `restMs`: idle threads of a peer
 * spin for a while before they sleep, and would take the cores from whoever comes next.
 */
export async function interleave(
  contestants: Record<string, Repetition>,
  options: { rounds: number; warmUp?: number; restMs?: number },
): Promise<Record<string, Spread>> {
  const samples: Record<string, number[]> = {};
  for (let round = -(options.warmUp ?? 2); round < options.rounds; round++) {
    for (const [name, run] of Object.entries(contestants)) {
      if (options.restMs !== undefined) await rest(options.restMs);
      const seconds = await run();
      if (round >= 0) (samples[name] ??= []).push(seconds);
    }
  }
  return Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, spreadOf(values)]));
}

/** Takes the machine-wide benchmark lock; a lock whose owner is gone is taken over. */
export function takeBenchmarkLock(): () => void {
  const path = join(tmpdir(), 'moebius-benchmark.lock');
  for (;;) {
    try {
      const file = openSync(path, 'wx');
      writeFileSync(file, String(process.pid));
      closeSync(file);
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const owner = Number(readFileSync(path, 'utf8'));
      if (Number.isInteger(owner) && isAlive(owner)) {
        throw new Error(`benchmark lock: must be free, process ${owner} holds it (wait for it to end)`);
      }
      rmSync(path, { force: true });
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A benchmark's committed result. */
export interface Result {
  /** File name without date, e.g. `train-step`. */
  readonly topic: string;
  readonly claim: string;
  readonly versions: Record<string, string>;
  /** Markdown: tables and one honest paragraph. */
  readonly body: string;
  /** The same numbers as data. */
  readonly data: unknown;
}

/** Writes `results/<topic>.md` and `.json`, with hardware, load, commit and command. */
export function writeResult(result: Result): string {
  const folder = new URL('../results/', import.meta.url).pathname;
  mkdirSync(folder, { recursive: true });
  const date = new Date().toISOString().slice(0, 10);
  const header = {
    topic: result.topic,
    date,
    hardware: hardware(),
    loadAverage: loadavg().map((value) => Math.round(value * 100) / 100),
    node: process.version,
    commit: commit(),
    command: [
      'node',
      ...process.argv.slice(1).map((word) => word.replace(/^.*\/benchmarks\//u, 'benchmarks/')),
    ].join(' '),
    versions: result.versions,
  };
  const lines = [
    `# ${result.topic}`,
    '',
    `Claim: ${result.claim}`,
    '',
    `${date} · ${header.hardware} · Node ${header.node} · ${Object.entries(result.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(' · ')} · commit ${header.commit} · load average at the end ${header.loadAverage.join(' / ')}`,
    '',
    `Command: \`${header.command}\``,
    '',
    result.body,
    '',
  ];
  const path = join(folder, `${result.topic}.md`);
  writeFileSync(path, lines.join('\n'));
  writeFileSync(
    join(folder, `${result.topic}.json`),
    `${JSON.stringify({ ...header, data: result.data }, undefined, 1)}\n`,
  );
  return path;
}

function hardware(): string {
  const processors = cpus();
  const isa = ['avx512f', 'avx2'].find((flag) => cpuFlags().includes(flag)) ?? 'no AVX2';
  return `${processors.length} × ${processors[0]?.model ?? 'unknown processor'} (${isa}), ${Math.round(totalmem() / 2 ** 30)} GiB`;
}

function cpuFlags(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return '';
  }
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

/** A Markdown table. */
export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
