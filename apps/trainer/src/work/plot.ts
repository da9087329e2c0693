/** @file `moebius plot`: the curves of runs as one picture. */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';

import { MoebiusError, isMoebiusError } from '@moebius/core';
import { drawRuns, metricsFileName, parseRunCurves } from '@moebius/train';
import type { RunCurves } from '@moebius/train';

import { exitCodes } from '../exit-codes.ts';
import type { CommandContext } from '../host.ts';
import { nameRuns } from '../run-file.ts';
import { writeTextFile } from '../write-text-file.ts';

/** Flags. */
export interface PlotFlags {
  readonly runs: readonly string[];
  readonly out?: string;
  readonly x: 'step' | 'tokens';
  readonly title?: string;
}

/** A string in V8 holds about 512 MiB; a run of a million steps writes less than this. */
const maximumBytes = 384 * 2 ** 20;
const pictureName = 'curves.svg';

/** Draws runs. */
export async function plot(flags: PlotFlags, { host, terminal }: CommandContext): Promise<number> {
  const { workingFolder } = host;
  const target = targetOf(flags, workingFolder);
  const names = distinctNames(flags.runs, workingFolder);
  const runs: RunCurves[] = [];
  for (const [index, path] of flags.runs.entries()) {
    const run = parseRunCurves(await readMetrics(path, workingFolder), names[index] ?? path);
    assertDrawable(run, path);
    runs.push(run);
  }
  const { x, title } = flags;
  const format = extname(target) === '.html' ? 'html' : 'svg';
  const picture = drawRuns(runs, { axis: x, format, ...(title === undefined ? {} : { title }) });
  await writeTextFile(target, picture, '--out');
  for (const { name, skippedLines } of runs) {
    if (skippedLines > 0) terminal.note(`${name}: ${skippedLines} lines that are no record were left out`);
  }
  terminal.json({
    event: 'plot',
    file: target,
    runs: runs.map(({ name, loss, bitsPerByte, skippedLines }) => ({
      name,
      steps: loss.at(-1)?.step ?? bitsPerByte.at(-1)?.step ?? 0,
      skippedLines,
    })),
  });
  terminal.line(`curves of ${runs.map(({ name }) => name).join(', ')}: ${relative(workingFolder, target)}`);
  return exitCodes.ok;
}

function targetOf({ runs, out }: PlotFlags, workingFolder: string): string {
  if (out === undefined) {
    const [only = '.'] = runs;
    if (runs.length > 1) return join(workingFolder, pictureName);
    const path = resolve(workingFolder, only);
    return join(extname(path) === '.jsonl' ? dirname(path) : path, pictureName);
  }
  if (['.svg', '.html'].includes(extname(out))) return resolve(workingFolder, out);
  throw new MoebiusError({
    code: 'configuration',
    message: `--out: must end with .svg or .html, got "${out}" (the ending says which is written)`,
    details: { out },
  });
}

/** The last part of each path, or the whole path where two would look alike. */
function distinctNames(paths: readonly string[], workingFolder: string): string[] {
  const folders = paths
    .map((path) => resolve(workingFolder, path))
    .map((path) => (basename(path) === metricsFileName ? dirname(path) : path));
  const short = folders.map((folder) => basename(folder));
  return short.map((name, index) =>
    short.indexOf(name) === short.lastIndexOf(name) ? name : (paths[index] ?? name),
  );
}

async function readMetrics(path: string, workingFolder: string): Promise<string> {
  const given = resolve(workingFolder, path);
  const file = extname(given) === '.jsonl' ? given : join(given, metricsFileName);
  try {
    const { size } = await stat(file);
    if (size > maximumBytes) throw tooLarge(path, size);
    return await readFile(file, 'utf8');
  } catch (cause) {
    if (isMoebiusError(cause)) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'an error';
    throw new MoebiusError({
      code: 'io',
      message: `plot ${path}: must be the folder of a run, with a readable ${metricsFileName}, got ${code} (runs are in: ${await nameRuns(dirname(given))})`,
      details: { file, got: code },
      cause,
    });
  }
}

function tooLarge(path: string, size: number): MoebiusError {
  return new MoebiusError({
    code: 'limit',
    message: `plot ${path}: must be at most ${maximumBytes} bytes of metrics, got ${size} (thin the file: keep every tenth line)`,
    details: { size, maximumBytes },
  });
}

function assertDrawable({ loss, bitsPerByte, skippedLines }: RunCurves, path: string): void {
  if (loss.length + bitsPerByte.length > 0) return;
  throw new MoebiusError({
    code: 'data',
    message: `plot ${path}: must have a step or an evaluation in its metrics, got none and ${skippedLines} lines that are no record (let it train first)`,
    details: { path, skippedLines },
  });
}
