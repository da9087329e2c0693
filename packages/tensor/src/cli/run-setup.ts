/** @file `moebius-tensor setup`. */
import { isMoebiusError } from '@moebius/core';

import { messageOf } from '../setup/errors.ts';
import { createSetupPorts } from '../setup/ports.ts';
import { tfjsVersion } from '../setup/recipe.ts';
import { type SetupReport, setupEngine } from '../setup/setup-engine.ts';
import { findPackage } from '../setup/sources.ts';
import { type Console } from './console.ts';

/** Options of the command. */
export interface SetupCommandOptions {
  readonly cache?: string;
  readonly wheel?: string;
  readonly install?: boolean;
  readonly force?: boolean;
  readonly verify?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

const installTimeoutMs = 15 * 60_000;

/**
 * Runs the command.
 *
 * @returns 0 when the native engine is ready, 2 when it is not
 */
export async function runSetup(options: SetupCommandOptions, terminal: Console): Promise<number> {
  const ports = createSetupPorts((line) => terminal.error(`engine: ${line}\n`));
  try {
    if (options.install === true) await installTfjsNode(terminal);
    const report = await setupEngine({
      cacheFolder: options.cache,
      wheel: options.wheel,
      force: options.force,
      verify: options.verify,
      resolveFrom: [terminal.workingFolder],
      ports,
    });
    if (options.json === true) terminal.out(`${JSON.stringify({ ready: true, ...report }, undefined, 2)}\n`);
    else if (report.changed || options.quiet !== true) terminal.out(describe(report));
    return 0;
  } catch (error) {
    if (!isMoebiusError(error)) throw error;
    if (options.json === true) {
      const details = { code: error.code, message: error.message, ...error.details };
      terminal.out(`${JSON.stringify({ ready: false, error: details }, undefined, 2)}\n`);
      return 2;
    }
    terminal.error(
      `no native engine: ${error.message}\nthe wasm engine works without it, several times slower\n`,
    );
    const { output } = error.details;
    if (options.verbose === true && typeof output === 'string') terminal.error(`${output}\n`);
    return 2;
  }
}

function describe(report: SetupReport): string {
  const steps = report.steps.map(({ name, milliseconds }) => `${name} ${(milliseconds / 1000).toFixed(1)} s`);
  const did = report.changed ? `made: ${steps.join(', ')}` : 'nothing to do';
  const kernels = report.fused ? 'with fused kernels' : `without fused kernels (${report.fusedProblem})`;
  return `native engine ready: TensorFlow ${report.tensorflow} ${kernels}; ${did}\n`;
}

async function installTfjsNode(terminal: Console): Promise<void> {
  if (findPackage('@tensorflow/tfjs-node-gpu', [terminal.workingFolder]) !== undefined) return;
  const wanted = `@tensorflow/tfjs-node-gpu@${tfjsVersion}`;
  terminal.error(`engine: installing ${wanted} into ${terminal.workingFolder}\n`);
  const result = await createSetupPorts().run(
    'npm',
    ['install', '--ignore-scripts', '--no-audit', '--no-fund', wanted],
    {
      timeoutMs: installTimeoutMs,
      cwd: terminal.workingFolder,
    },
  );
  if (result.status !== 0) {
    const reason = messageOf(new Error(result.output.trim().split('\n').at(-1) ?? result.failure));
    terminal.error(`engine: npm could not install it: ${reason}\n`);
  }
}
