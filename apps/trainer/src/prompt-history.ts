/**
 * @file Lines that were typed at the prompt, kept between sessions: a file that only its owner can read, one JSON string
 * a line, at most a thousand of them. Several sessions may add to it at once.
 */
import { appendFile, chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** Lines that are kept. */
export const historySize = 1000;

const ownerOnly = 0o600;
const ownerOnlyFolder = 0o700;

/** The file: `prompt-history` in MOEBIUS_STATE, else `moebius` in XDG_STATE_HOME or `~/.local/state`. */
export function historyFileOf(env: { readonly [name: string]: string | undefined }): string {
  const own = env['MOEBIUS_STATE'];
  if (own !== undefined && own !== '') return join(own, 'prompt-history');
  const base = env['XDG_STATE_HOME'];
  const state = base === undefined || base === '' ? join(homedir(), '.local', 'state') : base;
  return join(state, 'moebius', 'prompt-history');
}

/**
 * The lines of earlier sessions, newest first. A file that has grown long is cut; lines that are no JSON strings are
 * left out. Never fails: without a readable file there is no history.
 */
export async function readHistory(file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const lines = text.split('\n').flatMap(parseLine);
  const kept = lines.slice(-historySize);
  if (lines.length > 2 * historySize) await replace(file, kept).catch(() => undefined);
  return kept.toReversed();
}

/** Adds a line. Never fails: a prompt is answered whether or not it can be kept. */
export async function appendHistory(file: string, line: string): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: ownerOnlyFolder });
    await appendFile(file, `${JSON.stringify(line)}\n`, { mode: ownerOnly });
    await chmod(file, ownerOnly);
  } catch {
    // A read-only home, a full disk: the session goes on without.
  }
}

async function replace(file: string, lines: readonly string[]): Promise<void> {
  const temporary = `${file}.partial`;
  await writeFile(temporary, lines.map((line) => `${JSON.stringify(line)}\n`).join(''), { mode: ownerOnly });
  await rename(temporary, file);
}

function parseLine(line: string): string[] {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'string' && value !== '' ? [value] : [];
  } catch {
    return [];
  }
}
