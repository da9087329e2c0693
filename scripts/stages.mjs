/** @file What bootstrap, start and test share: stages with a line and a time each, and child processes. No dependencies. */
import { spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';

/** The repository's root folder. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const environment = { ...process.env, TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };

/**
 * Runs one stage and says on stderr what it did and how long it took.
 *
 * @param {string} name
 * @param {() => Promise<string>} work - returns what it did, in a few words
 */
export async function stage(name, work) {
  const start = performance.now();
  const slow = setTimeout(() => say(`${name} …`), 1_500);
  const did = await work().finally(() => clearTimeout(slow));
  say(`${name}: ${did} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
}

/** One line on stderr, so that a program's stdout stays its own. */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/**
 * Runs a command in the root folder.
 *
 * @param {readonly string[]} command
 * @param {{ show?: boolean }} options - `show`: connect it to the terminal; else its output is kept
 * @returns {Promise<{ status: number, output: string }>}
 */
export function run(command, { show = false } = {}) {
  return new Promise((resolve) => {
    const [file, ...parameters] = command;
    const stdio = show ? 'inherit' : ['ignore', 'pipe', 'pipe'];
    const child = spawn(file, parameters, { cwd: root, env: environment, stdio, shell: needsShell(file) });
    let output = '';
    child.stdout?.on('data', (chunk) => (output += chunk));
    child.stderr?.on('data', (chunk) => (output += chunk));
    // A terminal's Ctrl-C reaches the child by itself; we only wait for its end.
    const interrupt = () => (process.stdin.isTTY ? undefined : child.kill('SIGINT'));
    const terminate = () => child.kill('SIGTERM');
    process.on('SIGINT', interrupt).on('SIGTERM', terminate);
    child.on('error', (error) => resolve({ status: 127, output: `${output}${error.message}` }));
    child.on('close', (status, signal) => {
      process.off('SIGINT', interrupt).off('SIGTERM', terminate);
      resolve({ status: status ?? (signal === 'SIGINT' ? 130 : 143), output });
    });
  });
}

/** Runs the npm that started us, or the one on the path. */
export function npm(...parameters) {
  const path = process.env.npm_execpath;
  return path?.endsWith('.js') ? [process.execPath, path, ...parameters] : ['npm', ...parameters];
}

/** A command of node_modules/.bin. */
export function local(name, ...parameters) {
  return [`${root}/node_modules/.bin/${name}`, ...parameters];
}

function needsShell(file) {
  return process.platform === 'win32' && !file.endsWith('.exe');
}
